//! `krystalinex server` and `krystalinex payment-processor`: one role in its own process.
//!
//! Between processes the commands go through RabbitMQ. This release has no adapter for it yet, so a role alone checks its
//! configuration and says so, instead of starting something that can take no orders.

use std::process::ExitCode;

use crate::config::{Role, Sources};

/// Runs one role alone, as production does: with the environment of the runbook's Appendix A.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
}

/// Runs the role.
///
/// # Errors
///
/// The configuration is wrong, or what the role needs is not in this release.
pub async fn run(args: Args, role: Role) -> anyhow::Result<ExitCode> {
    args.sources.load(role)?;
    anyhow::bail!(
        "a role alone talks to the others through RabbitMQ (RABBITMQ_URL), and this release has no RabbitMQ adapter yet; \
         `krystalinex up` runs every role in one process"
    )
}
