//! MailDev, and what else the tests need of Node.js. `./kx test` installs it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::Identity;
use serde_json::Value;

use crate::{Http, free_port, wait_for};

const START_MAX: Duration = Duration::from_secs(60);
const MAIL_MAX: Duration = Duration::from_secs(60);
/// Somebody else may take a port before it is used.
const STARTS_MAX: u32 = 5;
/// Whoever sends mail over TLS.
const SMTP_USER: &str = "exchange";
const SMTP_PASSWORD: &str = "smtp-password-of-a-test";

fn node(script: &str) -> Command {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("node");
    let script = directory.join(script);
    assert!(
        directory.join("node_modules").is_dir() && script.is_file(),
        "{} is not there: `npm ci --prefix tests/node` installs it",
        script.display()
    );
    let mut command = Command::new("node");
    command.arg(script).stdin(Stdio::null());
    command
}

/// Returns an authenticator's code, made by a library of another language.
///
/// # Panics
///
/// When it does not run.
#[must_use]
pub fn authenticator_code(secret: &str, at: Duration) -> String {
    let output = node("code.js").arg(secret).arg(at.as_millis().to_string()).output();
    let output = output.expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A running MailDev. Dropped, it is gone.
#[derive(Debug)]
pub struct MailDev {
    child: Child,
    /// Whether it speaks TLS from the first byte.
    secure: bool,
    smtp: u16,
    web: u16,
    mails: PathBuf,
}

impl MailDev {
    /// Starts one on free ports and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one that speaks TLS from the first byte, as `localhost`, and takes mail of whoever knows the password.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn secure(identity: &Identity) -> Self {
        let text = |path: &Path| path.to_str().expect("a path of ours is text").to_owned();
        let (certificate, key) = (text(&identity.certificate), text(&identity.key));
        let mut arguments = vec!["--incoming-secure"];
        arguments.extend(["--incoming-cert", &certificate, "--incoming-key", &key]);
        arguments.extend(["--incoming-user", SMTP_USER, "--incoming-pass", SMTP_PASSWORD]);
        Self::with(&arguments)
    }

    fn with(arguments: &[&str]) -> Self {
        for _ in 0..STARTS_MAX {
            let mut maildev = Self::spawn(arguments);
            let answers = wait_for("MailDev", START_MAX, || {
                if maildev.child.try_wait().expect("it is our child").is_some() {
                    return Some(false);
                }
                let healthy = maildev.http().get("/healthz").ok();
                healthy.filter(|answer| answer.status == 200).map(|_| true)
            });
            if answers {
                return maildev;
            }
        }
        panic!("MailDev ended {STARTS_MAX} times before it answered");
    }

    fn spawn(arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kx-maildev-{}-{number}", std::process::id());
        let mails = std::env::temp_dir().join(name);
        fs::create_dir_all(&mails).expect("the temporary directory is writable");
        let (smtp, web) = (free_port(), free_port());
        let child = node("node_modules/maildev/bin/maildev")
            .args(["--smtp", &smtp.to_string(), "--web", &web.to_string(), "--ip", "127.0.0.1"])
            .arg("--mail-directory")
            .arg(&mails)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        Self { child, secure: !arguments.is_empty(), smtp, web, mails }
    }

    /// Returns where it takes mail.
    #[must_use]
    pub fn smtp_url(&self) -> String {
        if self.secure {
            format!("smtps://{SMTP_USER}:{SMTP_PASSWORD}@localhost:{}", self.smtp)
        } else {
            format!("smtp://127.0.0.1:{}", self.smtp)
        }
    }

    /// Returns how many mails it has taken, by its files: a handshake that fails ends it.
    #[must_use]
    pub fn count(&self) -> usize {
        let files = fs::read_dir(&self.mails).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|kind| kind == "eml")).count()
    }

    fn http(&self) -> Http {
        Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.web)))
    }

    /// Waits for a mail to an address whose subject has these words.
    #[must_use]
    pub fn mail(&self, to: &str, subject: &str) -> Value {
        wait_for("a mail", MAIL_MAX, || {
            let listed = self.http().get("/email").ok().filter(|answer| answer.status == 200)?;
            let mails = listed.json();
            let wanted = |mail: &&Value| {
                let about = mail["subject"].as_str().unwrap_or_default();
                mail["to"][0]["address"] == to && about.contains(subject)
            };
            mails.as_array()?.iter().find(wanted).cloned()
        })
    }
}

impl Drop for MailDev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.mails);
    }
}
