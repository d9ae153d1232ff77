//! `psql`, as an operator uses it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::wait_for;

/// How to reach one database.
#[derive(Clone, Debug)]
pub struct Psql {
    /// The port on the local host.
    pub port: u16,
    /// The password of the role `exchange`.
    pub password: String,
    /// The database.
    pub database: String,
}

impl Psql {
    /// Runs a statement and returns its rows, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let output = self.try_run(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// Runs a statement and returns its only value.
    ///
    /// # Panics
    ///
    /// When it fails or has another number of rows.
    #[must_use]
    pub fn value(&self, sql: &str) -> String {
        let mut rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }

    /// Runs a statement and returns its first row, or nothing where it fails or there is none: the database may be away.
    #[must_use]
    pub fn try_value(&self, sql: &str) -> Option<String> {
        let output = self.try_run(sql);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next().map(str::to_owned);
        first.filter(|value| output.status.success() && !value.is_empty())
    }

    /// Runs statements in one transaction and returns what `psql` did.
    #[must_use]
    pub fn try_run(&self, sql: &str) -> Output {
        // -X: without the person's own settings. The flags and the names are those of the runbook.
        self.command("psql")
            .args(["-U", "exchange", "-d", &self.database])
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-c", sql])
            .output()
            .expect("psql runs")
    }

    /// Runs one statement that no transaction may be around, such as one that makes a database.
    ///
    /// # Panics
    ///
    /// When `psql` cannot be run.
    #[must_use]
    pub fn try_run_alone(&self, sql: &str) -> Output {
        self.command("psql")
            .args(["-U", "exchange", "-d", &self.database])
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .expect("psql runs")
    }

    /// Makes a copy of this database, which nobody may be using, and returns it.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn copy(&self, name: &str) -> Self {
        let server = self.with_database("postgres");
        // Sessions of a process that was killed may take a moment to go.
        let sql = format!("CREATE DATABASE {name} TEMPLATE {}", self.database);
        wait_for("the copy", Duration::from_secs(30), || {
            let output = server
                .command("psql")
                .args(["-U", "exchange", "-d", "postgres", "-X", "-q", "-c", &sql])
                .output();
            output.expect("psql runs").status.success().then_some(())
        });
        self.with_database(name)
    }

    /// Dumps this database, as the runbook does.
    ///
    /// # Panics
    ///
    /// When it cannot be dumped.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let dump = self.command("pg_dump").args(["-U", "exchange", &self.database]).output();
        let dump = dump.expect("pg_dump runs");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        dump.stdout
    }

    /// Restores a dump into a new database, as the runbook does, and returns it.
    ///
    /// # Panics
    ///
    /// When it cannot be restored.
    #[must_use]
    pub fn restore(&self, name: &str, dump: &Path) -> Self {
        let made = self.command("createdb").args(["-U", "exchange", name]).output();
        assert!(made.expect("createdb runs").status.success());
        let restored = self
            .command("psql")
            .args(["-U", "exchange", "-d", name, "-X", "-q"])
            .args(["-v", "ON_ERROR_STOP=1", "--single-transaction", "-f"])
            .arg(dump)
            .output()
            .expect("psql runs");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        self.with_database(name)
    }

    /// Returns the same server's other database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program));
        command
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGPASSWORD", &self.password);
        command
    }
}

/// Finds a program of PostgreSQL where systems put them.
fn find(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(program)).collect();
    found.retain(|path| Path::is_file(path));
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(program))
}
