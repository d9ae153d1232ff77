//! Makes what a cluster needs before it can start: directories, the password, the files of initdb, the database.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::account::{self, RunAs};
use super::{ClusterError, DATABASE, Paths, Programs, ROLE};
use crate::{DbConfig, Secret, StoreError};

/// Where clusters go when we are root and the user that PostgreSQL runs as cannot pass to the data directory, as it
/// cannot under /root.
const ELSEWHERE: &str = "/var/lib/krystalinex";

/// Decides where everything is. A directory that PostgreSQL's user cannot reach keeps our own files and the name of
/// another place for its.
pub(super) fn paths(own: &Path, run_as: Option<&RunAs>) -> Result<Paths, ClusterError> {
    let pointer = own.join("location");
    let pointed = fs::read_to_string(&pointer).ok().map(|text| PathBuf::from(text.trim()));
    let near = own.join("pgdata");
    let barred = run_as.and_then(|run_as| run_as.barred_at(&near));
    let base = match (pointed, barred) {
        (Some(pointed), _) => pointed,
        (None, None) => own.to_owned(),
        (None, Some(barred)) => {
            let base = Path::new(ELSEWHERE).join(Uuid::new_v4().simple().to_string());
            tracing::info!(
                barred = %barred.display(), base = %base.display(),
                "PostgreSQL does not run as root, and its user may not enter the data directory: the cluster goes \
                 elsewhere"
            );
            fs::create_dir_all(&base).map_err(ClusterError::files("cannot make", &base))?;
            let text = base.to_string_lossy().into_owned();
            fs::write(&pointer, text).map_err(ClusterError::files("cannot write", &pointer))?;
            base
        }
    };
    let (data, socket) = (base.join("pgdata"), base.join("socket"));
    if let Some(barred) = run_as.and_then(|run_as| run_as.barred_at(&data)) {
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let what = "PostgreSQL does not run as root, and its user may not pass";
        return Err(ClusterError::Files { what, path: barred.to_owned(), source });
    }
    private_directory(&socket, run_as)?;
    Ok(Paths { own: own.to_owned(), data, socket })
}

/// Makes a directory that its user alone may enter.
fn private_directory(path: &Path, run_as: Option<&RunAs>) -> Result<(), ClusterError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(ClusterError::files("cannot make", path))?;
    run_as.map_or(Ok(()), |run_as| run_as.give(path))
}

/// Returns the role's password, made once: 244 random bits in a file that we alone may read.
pub(super) fn password(paths: &Paths) -> Result<Secret, ClusterError> {
    let path = paths.password();
    if let Ok(text) = fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(Secret::new(text.trim()));
    }
    let text = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    private_file(&path, &text).map_err(ClusterError::files("cannot write", &path))?;
    Ok(Secret::new(text))
}

fn private_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

/// Makes the cluster's files if they are not there; returns whether it did. A half-made cluster never has the final
/// name, so a kill on the way leaves nothing that looks whole.
pub(super) async fn make(
    programs: &Programs,
    paths: &Paths,
    run_as: Option<&RunAs>,
    password: &Secret,
) -> Result<bool, ClusterError> {
    if paths.data.join("PG_VERSION").exists() {
        return Ok(false);
    }
    let half = paths.data.with_extension("new");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(ClusterError::files("cannot remove", &half))?;
    }
    private_directory(&half, run_as)?;
    let password_file = half.with_extension("password");
    private_file(&password_file, password.expose())
        .map_err(ClusterError::files("cannot write", &password_file))?;
    if let Some(run_as) = run_as {
        run_as.give(&password_file)?;
    }
    let mut initdb = account::command(programs.program("initdb"), run_as);
    initdb
        .arg("--pgdata")
        .arg(&half)
        .arg("--pwfile")
        .arg(&password_file)
        .args(["--username", ROLE, "--auth", "scram-sha-256"])
        .args(["--encoding", "UTF8", "--locale", "C"])
        // What it writes is flushed while the first start goes on; see `flush`.
        .args(["--no-sync", "--no-instructions"]);
    let ran = run("initdb", initdb).await;
    fs::remove_file(&password_file)
        .map_err(ClusterError::files("cannot remove", &password_file))?;
    ran?;
    fs::rename(&half, &paths.data).map_err(ClusterError::files("cannot name", &paths.data))?;
    Ok(true)
}

/// Flushes the files that initdb has made.
pub(super) async fn flush(
    programs: &Programs,
    paths: &Paths,
    run_as: Option<&RunAs>,
) -> Result<(), ClusterError> {
    let mut initdb = account::command(programs.program("initdb"), run_as);
    initdb.arg("--sync-only").arg("--pgdata").arg(&paths.data);
    run("initdb", initdb).await
}

async fn run(
    program: &'static str,
    mut command: tokio::process::Command,
) -> Result<(), ClusterError> {
    let failed = |output: String| ClusterError::Program { program, output };
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(tail(&String::from_utf8_lossy(&said))))
}

/// Returns the last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Makes the database if it is not there.
pub(super) async fn database(config: &DbConfig) -> Result<(), StoreError> {
    let maintenance = DbConfig { database: "postgres".to_owned(), ..config.clone() };
    let connection = maintenance.connect().await?;
    let there =
        connection.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE]).await?;
    if there.is_none() {
        connection.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    Ok(())
}
