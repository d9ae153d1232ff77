//! Schemathesis, an API fuzzer from the Python package index, which works from the served OpenAPI document. `./kx fuzz-api` and
//! `./kx test` install it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Exchange, clean};

/// Whatever it finds, it finds again.
const SEED: &str = "1";

/// One run of the fuzzer.
#[derive(Clone, Copy, Debug)]
pub struct Fuzz<'a> {
    /// What it is called in its output.
    pub name: &'a str,
    /// An access token, or nobody's requests.
    pub token: Option<&'a str>,
    /// Which routes, as a regular expression.
    pub paths: &'a str,
    /// Which routes not, as a regular expression.
    pub except: Option<&'a str>,
    /// Cases per operation and phase, at most.
    pub cases_max: u32,
}

impl Fuzz<'_> {
    /// Runs it to its end. Returns what it said, as an error where it has found something.
    ///
    /// # Errors
    ///
    /// What it said.
    ///
    /// # Panics
    ///
    /// When it is not installed.
    pub fn run(&self, exchange: &Exchange) -> Result<String, String> {
        let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let tool = tests.join("../.kx/tools/schemathesis/bin/schemathesis");
        assert!(tool.is_file(), "{} is not there: `./kx fuzz-api` installs it", tool.display());
        let mut command = Command::new(tool);
        clean(&mut command);
        command
            .current_dir(exchange.directory())
            .arg("run")
            .arg(format!("http://127.0.0.1:{}/api/v1/openapi.json", exchange.port()))
            .args(["--seed", SEED, "--generation-deterministic"])
            // With more workers than one, Python's own parser fails now and then ("AST constructor recursion depth").
            .args(["--max-examples", &self.cases_max.to_string(), "--workers", "1"])
            .args(["--no-color", "--suppress-health-check", "all", "--no-shrink"])
            .args(["--request-timeout", "60", "--include-path-regex", self.paths])
            // The document says which types a value has, and the server knows more rules: a refusal is no finding. A 503
            // is one of them, and what lies behind one that should not be is in the exchange's log; any other 5xx is in no
            // document and is found by that.
            .args(["--exclude-checks", "positive_data_acceptance,not_a_server_error"])
            .stdin(Stdio::null());
        if let Some(except) = self.except {
            command.args(["--exclude-path-regex", except]);
        }
        if let Some(token) = self.token {
            command.arg("-H").arg(format!("Authorization: Bearer {token}"));
        }
        let output = command.output().expect("schemathesis starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}
