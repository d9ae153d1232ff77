//! `krystalinex admin`: roles and locks from the command line, for the first operator and for when nobody can log in.
//!
//! Invariant: it works on the database alone, and whatever it changes is in the audit log with the change. What the core has to
//! know of a lock stands in the user's row, and the servers tell it.

use std::process::ExitCode;

use anyhow::{Context, bail};
use store::audit::{AuditEntry, Level};
use store::roles::{self, Change, Role as UserRole};
use store::{Db, users};
use uuid::Uuid;

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Gives roles and locks users out, in the database. Whoever can reach it is an administrator.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Gives a user a role: user, support, operator or admin.
    Grant {
        #[command(flatten)]
        sources: Sources,
        /// The e-mail address.
        email: String,
        /// The role.
        role: UserRole,
    },
    /// Lists everybody with a role.
    List {
        #[command(flatten)]
        sources: Sources,
    },
    /// Locks a user out: sessions and API keys end at once, on every server, and the core hears of it from one of them.
    Lock {
        #[command(flatten)]
        sources: Sources,
        /// The e-mail address.
        email: String,
        /// Why; it stands in the audit log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lets a user in again.
    Unlock {
        #[command(flatten)]
        sources: Sources,
        /// The e-mail address.
        email: String,
        /// Why; it stands in the audit log.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, or there is no such user.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = match &args.command {
        Subcommand::Grant { sources, .. }
        | Subcommand::List { sources }
        | Subcommand::Lock { sources, .. }
        | Subcommand::Unlock { sources, .. } => sources,
    };
    let config = sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let result = work(&opened.db, &args.command).await;
    opened.close().await?;
    result
}

async fn work(db: &Db, command: &Subcommand) -> anyhow::Result<ExitCode> {
    match command {
        Subcommand::List { .. } => list(db).await,
        Subcommand::Grant { email, role, .. } => {
            let user = find(db, email).await?;
            let change = roles::grant(db, user, *role, entry("admin.role", None)).await?;
            say(change, &format!("{email} is {} now.", role.name()))?;
            if *role >= UserRole::Operator && !roles::has_two_factor(db, user).await? {
                println!("The role counts once two-factor authentication is on for this user.");
            }
            Ok(ExitCode::SUCCESS)
        }
        Subcommand::Lock { email, reason, .. } => {
            let user = find(db, email).await?;
            let entry = entry("admin.lock", reason.as_deref());
            let change = roles::lock(db, user, UserRole::Admin, entry).await?;
            say(
                change,
                &format!(
                    "{email} is locked out: all sessions and keys have ended. A running server tells the core."
                ),
            )
        }
        Subcommand::Unlock { email, reason, .. } => {
            let user = find(db, email).await?;
            let entry = entry("admin.unlock", reason.as_deref());
            let change = roles::unlock(db, user, UserRole::Admin, entry).await?;
            say(change, &format!("{email} may log in again."))
        }
    }
}

async fn list(db: &Db) -> anyhow::Result<ExitCode> {
    let staff = roles::staff(db).await?;
    if staff.is_empty() {
        println!("Nobody has a role yet: `krystalinex admin grant EMAIL admin` gives the first.");
    }
    for one in staff {
        let second = if roles::has_two_factor(db, one.user).await? { "2fa" } else { "no-2fa" };
        let locked = if one.locked { " locked" } else { "" };
        println!("{:<10} {:<8} {}{locked}", one.role.name(), second, one.email);
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(db: &Db, email: &str) -> anyhow::Result<Uuid> {
    let found = users::by_email(db, &email.to_ascii_lowercase()).await?;
    let found = found.with_context(|| format!("no user has the e-mail address {email}"))?;
    Ok(found.id)
}

/// Returns an entry that says who was at the command line, as far as the system knows.
fn entry(action: &'static str, reason: Option<&str>) -> AuditEntry {
    let by = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    AuditEntry {
        level: Level::Warn,
        action,
        user: None,
        address: None,
        trace_id: 0,
        detail: serde_json::json!({ "by": "command line", "systemUser": by, "reason": reason }),
    }
}

fn say(change: Change, done: &str) -> anyhow::Result<ExitCode> {
    match change {
        Change::Done => println!("{done}"),
        Change::Already => println!("It was so before."),
        Change::NoSuchUser => bail!("there is no such user"),
        Change::LastAdmin => bail!("nobody would be left to give roles: make another admin first"),
        Change::Above => bail!("this user stands above you"),
    }
    Ok(ExitCode::SUCCESS)
}
