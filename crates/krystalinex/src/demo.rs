//! The demo: two users with play money, and a market maker that quotes around a simulated price, so that a first order
//! fills.
//!
//! Invariant: it has no way of its own. Users are rows as any other user's, and every account, deposit and order goes through
//! the queue and the journal like anybody's.

mod maker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use engine::{AccountFlags, Action, Command, Event, Origin, Reject};
use follower::Live;
use journal::Message;
use queue::{CommandPublisher, PublishOutcome};
use server::PasswordCost;
use server::auth::password::Passwords;
use store::Db;
use units::{AccountId, Amount, CommandId, ReferenceHash};
use uuid::Uuid;

pub use maker::make_markets;

/// A user of the demo.
pub struct DemoUser {
    /// The e-mail address to log in with.
    pub email: &'static str,
    /// The password; known to everybody, so it guards nothing but play money.
    pub password: &'static str,
}

/// The users whose logins are printed.
pub const USERS: [DemoUser; 2] = [
    DemoUser { email: "alice@demo.example", password: "alice-demo-password" },
    DemoUser { email: "bob@demo.example", password: "bob-demo-password" },
];

/// The market maker's user, whose password nobody is told.
const MAKER: &str = "market-maker@demo.example";

/// What each user is given, in whole units of the asset.
const FUNDS: [(&str, u128); 4] =
    [("USD", 1_000_000), ("USDT", 1_000_000), ("BTC", 20), ("ETH", 300)];
/// What the market maker is given.
const MAKER_FUNDS: [(&str, u128); 4] =
    [("USD", 10_000_000_000), ("USDT", 10_000_000_000), ("BTC", 100_000), ("ETH", 1_000_000)];

/// How long a command of the demo may take.
const OUTCOME_MAX: Duration = Duration::from_secs(10);
/// How long a command of the demo is good, in microseconds of journal time.
const LIFETIME_MICROS: u64 = 15_000_000;

/// Sends commands as a server does, and waits for what they do.
#[derive(Clone)]
pub struct Sender {
    /// The followed state.
    pub live: Arc<Live>,
    /// The queue.
    pub publisher: Arc<dyn CommandPublisher>,
}

impl Sender {
    /// Sends a command and returns its outcome.
    ///
    /// # Errors
    ///
    /// The queue does not take it, or the outcome does not come in time.
    pub async fn send(&self, action: Action) -> anyhow::Result<(CommandId, Event)> {
        let id = CommandId::new(Uuid::now_v7().as_u128());
        let command = Command {
            id,
            // A fresh id is never a repeat, so any hash of its body will do.
            body_hash: 0,
            expires_at: self.live.journal_now().plus_micros(LIFETIME_MICROS),
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        let message =
            Message { incarnation: self.live.incarnation(), seen: self.live.sequence(), command };
        let mut waiter = self.live.expect(id);
        if self.publisher.publish(message.encode().into(), 0).await == PublishOutcome::Unroutable {
            bail!("the queue takes no commands");
        }
        let outcome = waiter
            .outcome(OUTCOME_MAX)
            .await
            .context("a command's outcome did not come in time")?;
        Ok((id, outcome.entry().event.clone()))
    }

    /// Sends a command that must be done.
    ///
    /// # Errors
    ///
    /// It was refused, for another reason than those in `but`, or [`Sender::send`] fails.
    pub async fn must(&self, action: Action, but: &[Reject]) -> anyhow::Result<()> {
        let text = format!("{action:?}");
        match self.send(action).await? {
            (_, Event::Rejected(reject)) if !but.contains(&reject) => {
                bail!("{text} was refused: {}", reject.code())
            }
            _ => Ok(()),
        }
    }
}

/// Makes the demo's users with their funds, and returns the market maker's account. What is there already stays.
///
/// # Errors
///
/// The database or the queue fails.
pub async fn prepare(db: &Db, sender: &Sender) -> anyhow::Result<AccountId> {
    let passwords = Passwords::new(PasswordCost::default());
    for user in &USERS {
        let account = ensure_user(db, &passwords, user.email, user.password.to_owned()).await?;
        ensure_account(sender, account).await?;
        fund(sender, account, &FUNDS).await?;
    }
    let secret = Uuid::new_v4().to_string();
    let maker = ensure_user(db, &passwords, MAKER, secret).await?;
    ensure_account(sender, maker).await?;
    let flags = sender
        .live
        .read(|state| state.account(maker).map(|account| account.flags))
        .unwrap_or_default();
    if !flags.market_maker {
        let flags = AccountFlags { market_maker: true, ..flags };
        sender.must(Action::SetAccountFlags { account: maker, flags }, &[]).await?;
    }
    fund(sender, maker, &MAKER_FUNDS).await?;
    Ok(maker)
}

async fn ensure_user(
    db: &Db,
    passwords: &Passwords,
    email: &str,
    password: String,
) -> anyhow::Result<AccountId> {
    if let Some(user) = store::users::by_email(db, email).await? {
        return Ok(user.account);
    }
    let hash = passwords.hash(password).await;
    let Ok(hash) = hash else {
        bail!("the password of a demo user cannot be hashed");
    };
    let salt = Uuid::new_v4();
    let user =
        store::users::ensure_verified(db, Uuid::now_v7(), email, &hash, salt.as_bytes()).await?;
    Ok(user.account)
}

async fn ensure_account(sender: &Sender, account: AccountId) -> anyhow::Result<()> {
    if sender.live.read(|state| state.account(account).is_some()) {
        return Ok(());
    }
    sender.must(Action::OpenAccount { account }, &[]).await
}

/// Deposits play money once: the reference of each deposit is the account's and the asset's.
async fn fund(sender: &Sender, account: AccountId, funds: &[(&str, u128)]) -> anyhow::Result<()> {
    for (symbol, whole) in funds {
        let found = sender.live.read(|state| {
            let asset = state.asset_by_symbol(symbol)?;
            let scale = state.assets().get(usize::from(asset.get()))?.scale;
            let had = state.balances(account).any(|(of, _)| of == asset);
            Some((asset, scale, had))
        });
        let Some((asset, scale, had)) = found else {
            continue;
        };
        if had {
            continue;
        }
        let amount = Amount::new(whole * 10_u128.pow(u32::from(scale)));
        let reference = ReferenceHash::new(
            u128::from_be_bytes(*b"demo deposit    ")
                ^ (u128::from(account.get()) << 16)
                ^ u128::from(asset.get()),
        );
        let deposit = Action::Deposit { account, asset, amount, reference, sandbox: true };
        sender.must(deposit, &[Reject::DepositKnown]).await?;
    }
    Ok(())
}
