//! Tells the program which commit it is of: `KX_COMMIT` where it is set (an image is built without the repository), else what
//! git says.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=KX_COMMIT");
    let commit =
        std::env::var("KX_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(|| {
            // The log of HEAD grows with every commit and checkout.
            if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
                let log = std::path::absolute(log).ok().filter(|log| log.exists());
                log.iter().for_each(|log| println!("cargo::rerun-if-changed={}", log.display()));
            }
            git(&["rev-parse", "HEAD"])
        });
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=KX_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
