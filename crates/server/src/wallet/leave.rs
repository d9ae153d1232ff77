//! Whether money may leave an account: asked of the database before the command is sent (docs/adr/0010).
//!
//! Invariant: a withdrawal or transfer that was not admitted is never sent to the sequencer.

use engine::{AssetConfig, Reject};
use store::outgoing::{self, Admission, Outgoing, Way};
use units::{Amount, AssetId, CommandId, Time};

use crate::app::App;
use crate::edge::{Auth, Context};
use crate::problem::{Code, Problem};
use crate::token::Principal;

/// Money that asks to leave.
pub(super) struct Leaving<'a> {
    /// The id of the command.
    pub(super) id: CommandId,
    /// How.
    pub(super) way: Way,
    /// Of what.
    pub(super) asset: (AssetId, &'a AssetConfig),
    /// How much.
    pub(super) amount: Amount,
    /// Where to.
    pub(super) destination: &'a str,
}

/// Admits money that asks to leave.
///
/// # Errors
///
/// A refusal that says which rule stands against it, and until when.
pub(super) async fn admit(
    app: &App,
    context: &Context,
    principal: &Principal,
    leaving: &Leaving<'_>,
) -> Result<(), Problem> {
    let rules = &app.config.withdrawals;
    let (asset, config) = leaving.asset;
    let outgoing = Outgoing {
        id: wire::id::to_uuid(leaving.id),
        user: principal.user,
        way: leaving.way,
        asset,
        amount: leaving.amount,
        destination: leaving.destination,
        // A key that was stolen can only send to where its owner sends.
        must_be_listed: rules.must_be_listed || matches!(context.caller, Auth::Key(_)),
        daily_max: daily_max(app, config)?,
    };
    // One user's burst waits for one row's lock, each with a connection: it must not take them all.
    let permit = app.gates.outgoing.acquire().await.map_err(|_| Problem::new(Code::Defect))?;
    let admission = outgoing::admit(&app.db, &outgoing)
        .await
        .map_err(|error| Problem::unavailable("cannot admit what leaves", &error))?;
    drop(permit);
    match admission {
        Admission::Admitted => Ok(()),
        Admission::Locked => Err(Problem::refused(Reject::AccountLocked)),
        Admission::Differs => Err(Problem::new(Code::KeyReused)),
        Admission::Frozen(until) => Err(Problem::refused(Reject::WithdrawalFrozen).detail(
            format!("Nothing may leave this account until {}.", wire::time::format(until)),
        )),
        Admission::Unlisted => {
            Err(named(Code::DestinationUnlisted, leaving.way, "must be one of your listed ones"))
        }
        Admission::CoolingOff(until) => Err(cooling_off(leaving.way, until)),
        Admission::BeyondLimit(left) => {
            let left = wire::decimal::format_amount(config, left);
            let rule =
                format!("must be at most what may still leave today, {left} {}", config.symbol);
            Err(Problem::new(Code::WithdrawalLimit)
                .with_error("amount", "withdrawal_limit", rule)
                .nearest(left))
        }
    }
}

fn named(code: Code, way: Way, rule: &str) -> Problem {
    let field = match way {
        Way::Withdrawal => "destination",
        Way::Transfer => "to",
    };
    Problem::new(code).with_error(field, code.name(), rule)
}

fn cooling_off(way: Way, until: Time) -> Problem {
    let until = wire::time::format(until);
    named(Code::DestinationCoolingOff, way, &format!("may be used from {until} on"))
}

/// Returns what may leave in 24 hours; `None` where there is no limit.
fn daily_max(app: &App, config: &AssetConfig) -> Result<Option<Amount>, Problem> {
    let all = &app.config.withdrawals.daily_max;
    let Some((_, text)) = all.iter().find(|(symbol, _)| **symbol == *config.symbol) else {
        return Ok(None);
    };
    match wire::decimal::parse_amount(config, text) {
        Ok(max) => Ok(Some(max)),
        Err(error) => {
            // A limit that cannot be read is no leave to send everything.
            tracing::error!(asset = %config.symbol, %error, "the limit of withdrawals cannot be read");
            Err(Problem::new(Code::Unavailable))
        }
    }
}
