//! The accounts' own streams: orders, fills, balances and withdrawals, numbered by the core's account sequence.
//!
//! Invariant: a connection hears every change of its account after the snapshot or the number that it went on from,
//! each once and in order, or it hears `resync`. The numbers are the core's, so every server numbers alike.
//!
//! Changes are said only for accounts that somebody listens to, or did within [`KEPT_MAX`]: they are kept in a
//! bounded ring, so that a client whose connection broke goes on where it was.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use engine::{State, Trade};
use follower::Live;
use journal::Applied;
use parking_lot::Mutex;
use units::{AccountId, Sequence, Time};
use wire::enums::Liquidity;
use wire::render::{self, MarketWords};
use wire::{decimal, id};

use super::channel::{Own, OwnSet};
use super::message::{Data, Message, Withdrawal};
use super::outbox::Outbox;

/// Changes that are kept of one account.
const CHANGES_MAX: usize = 1_024;
/// Accounts whose changes are kept.
const ACCOUNTS_MAX: usize = 10_000;
/// How long changes are kept after the last connection has ended.
const KEPT_MAX: Duration = Duration::from_secs(300);

/// Every account that somebody listens to, or did a moment ago.
#[derive(Debug, Default)]
pub struct Accounts(Mutex<Followed>);

#[derive(Debug, Default)]
struct Followed {
    /// The last journal row whose changes were told.
    sequence: Sequence,
    by_id: HashMap<AccountId, Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// The last changes, by rising number, without gaps.
    changes: VecDeque<Change>,
    listeners: Vec<Listener>,
    /// When the last listener has gone.
    left_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Change {
    number: u64,
    own: Own,
    text: Utf8Bytes,
}

#[derive(Debug)]
struct Listener {
    outbox: Outbox,
    channels: OwnSet,
    /// Changes up to this number it has seen, by channel.
    seen: [u64; Own::ALL.len()],
}

/// Which journal row something is told of.
#[derive(Clone, Copy)]
struct At {
    sequence: Sequence,
    time: Time,
}

impl Accounts {
    /// Begins to tell a connection about channels of an account, a snapshot first. Returns the last change that is in the
    /// snapshot, and the journal row that it shows.
    pub fn listen(
        &self,
        live: &Live,
        account: AccountId,
        channels: OwnSet,
        outbox: &Outbox,
    ) -> (u64, Sequence) {
        let accounts = &mut self.0.lock().by_id;
        let ((text, number), sequence) =
            live.read(|state| (snapshot(state, account, channels), state.sequence()));
        outbox.send(text);
        let account = accounts.entry(account).or_default();
        account.add(outbox, channels, number);
        make_room(accounts);
        (number, sequence)
    }

    /// Goes on after change `number`, if that is still known; tells whether it is.
    pub fn resume(
        &self,
        live: &Live,
        account: AccountId,
        channels: OwnSet,
        number: u64,
        outbox: &Outbox,
    ) -> bool {
        let accounts = &mut self.0.lock().by_id;
        let now = live.read(|state| state.account(account).map(|view| view.account_sequence));
        let kept = accounts.entry(account).or_default();
        let from = kept.changes.partition_point(|change| change.number <= number);
        let next = kept.changes.get(from).map(|change| change.number);
        // Either what comes next is kept, or nothing has come since: nothing kept, and nothing in the state.
        let last = kept.changes.back().map(|change| change.number);
        let none_since = now == Some(number) || last == Some(number);
        let known = next.map_or(none_since, |next| next == number + 1);
        if !known {
            return false;
        }
        let missed = kept.changes.iter().skip(from).filter(|change| channels.has(change.own));
        missed.for_each(|change| {
            outbox.send(change.text.clone());
        });
        let seen = kept.changes.back().map_or(number, |change| change.number.max(number));
        kept.add(outbox, channels, seen);
        make_room(accounts);
        true
    }

    /// Ends what was begun for a connection on some channels.
    pub fn unlisten(&self, account: AccountId, channels: OwnSet, outbox: &Outbox) {
        let accounts = &mut self.0.lock().by_id;
        let Some(account) = accounts.get_mut(&account) else { return };
        for listener in account.listeners.iter_mut().filter(|known| known.outbox.is(outbox)) {
            channels.iter().for_each(|own| listener.channels.remove(own));
        }
        account.listeners.retain(|listener| !listener.channels.is_empty());
        account.note_left();
    }

    /// Tells the listeners what a journal row did; tells whether it is the next one.
    pub fn follow(&self, live: &Live, applied: &Applied) -> bool {
        let followed = &mut *self.0.lock();
        let sequence = applied.batch.sequence;
        if sequence != followed.sequence.next() {
            return sequence <= followed.sequence;
        }
        followed.sequence = sequence;
        let accounts = &mut followed.by_id;
        if accounts.is_empty() {
            return true;
        }
        let effects = &applied.effects;
        let at = At { sequence: applied.batch.sequence, time: applied.batch.time };
        let mut changes: Vec<(AccountId, Change)> = Vec::new();
        live.read(|state| {
            let kept = |account: &AccountId| accounts.contains_key(account);
            for (_, order) in effects.orders.iter().filter(|(_, order)| kept(&order.account)) {
                changes.extend(order_change(state, order, at));
            }
            for (_, trade) in &effects.trades {
                if kept(&trade.taker_account) {
                    changes.extend(fill_change(state, trade, Liquidity::Taker, at));
                }
                if kept(&trade.maker_account) {
                    changes.extend(fill_change(state, trade, Liquidity::Maker, at));
                }
            }
            for effect in effects.balances.iter().filter(|effect| kept(&effect.account)) {
                changes.extend(balance_change(state, effect, at));
            }
            for view in effects.withdrawals.iter().filter(|view| kept(&view.account)) {
                changes.extend(withdrawal_change(state, view, at));
            }
        });
        changes.sort_by_key(|(account, change)| (*account, change.number));
        for (account, change) in changes {
            if let Some(account) = accounts.get_mut(&account) {
                account.tell(change);
            }
        }
        let now = Instant::now();
        accounts.retain(|_, account| {
            account.left_at.is_none_or(|left| now.duration_since(left) < KEPT_MAX)
        });
        true
    }

    /// Forgets what was kept, after rows were missed, and gives every listener a new snapshot. What comes next is the row
    /// after `sequence`, which the followed state has reached.
    pub fn restart(&self, live: &Live, sequence: Sequence) {
        let followed = &mut *self.0.lock();
        followed.sequence = sequence;
        for (id, account) in &mut followed.by_id {
            account.changes.clear();
            for listener in &mut account.listeners {
                let account_sequence = listener.seen.into_iter().max().unwrap_or_default();
                let resync = Message::Resync { account_sequence };
                listener.outbox.send(resync.text());
                let (text, number) = live.read(|state| snapshot(state, *id, listener.channels));
                listener.outbox.send(text);
                listener.seen = [number; Own::ALL.len()];
            }
        }
    }
}

impl Account {
    fn add(&mut self, outbox: &Outbox, channels: OwnSet, seen: u64) {
        self.left_at = None;
        match self.listeners.iter_mut().find(|known| known.outbox.is(outbox)) {
            Some(listener) => {
                for own in channels.iter() {
                    listener.channels.add(own);
                    listener.seen[own.index()] = seen;
                }
            }
            None => {
                let seen = [seen; Own::ALL.len()];
                self.listeners.push(Listener { outbox: outbox.clone(), channels, seen });
            }
        }
    }

    fn note_left(&mut self) {
        if self.listeners.is_empty() && self.left_at.is_none() {
            self.left_at = Some(Instant::now());
        }
    }

    fn tell(&mut self, change: Change) {
        self.listeners.retain_mut(|listener| {
            let seen = &mut listener.seen[change.own.index()];
            if change.number <= *seen || !listener.channels.has(change.own) {
                return true;
            }
            *seen = change.number;
            listener.outbox.send(change.text.clone())
        });
        self.note_left();
        if self.changes.back().is_some_and(|last| last.number + 1 != change.number) {
            self.changes.clear();
        }
        self.changes.push_back(change);
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }
}

/// Forgets the account that was left first, where there are too many. Accounts that somebody listens to stay: their
/// number is bounded by that of connections.
fn make_room(accounts: &mut HashMap<AccountId, Account>) {
    if accounts.len() <= ACCOUNTS_MAX {
        return;
    }
    let left = accounts.iter().filter_map(|(id, account)| Some((account.left_at?, *id)));
    if let Some((_, first)) = left.min() {
        accounts.remove(&first);
    }
}

fn snapshot(state: &State, account: AccountId, channels: OwnSet) -> (Utf8Bytes, u64) {
    let number = state.account(account).map_or(0, |view| view.account_sequence);
    let orders = || {
        let say = |order: engine::OrderView<'_>| {
            MarketWords::of(state, order.market).map(|words| words.order(&order))
        };
        state.open_orders(account).filter_map(say).collect()
    };
    let balances = || {
        let say = |(asset, balance): (units::AssetId, units::Balance)| {
            let asset = state.assets().get(usize::from(asset.get()))?;
            Some(render::balance(asset, balance))
        };
        state.balances(account).filter_map(say).collect()
    };
    let withdrawals = || {
        let own = state.withdrawals().filter(|view| view.account == account);
        own.filter_map(|view| withdrawal(state, &view)).collect()
    };
    let message = Message::AccountSnapshot {
        account_sequence: number,
        sequence: state.sequence().get(),
        orders: channels.has(Own::Orders).then(orders),
        balances: channels.has(Own::Balances).then(balances),
        withdrawals: channels.has(Own::Withdrawals).then(withdrawals),
    };
    (message.text(), number)
}

fn change(own: Own, number: u64, at: At, data: Data<'_>) -> Change {
    let message = Message::Account {
        channel: own.name(),
        account_sequence: number,
        sequence: at.sequence.get(),
        time: at.time.into(),
        data,
    };
    Change { number, own, text: message.text() }
}

fn order_change(
    state: &State,
    order: &engine::OrderView<'_>,
    at: At,
) -> Option<(AccountId, Change)> {
    let body = MarketWords::of(state, order.market)?.order(order);
    let change = change(Own::Orders, order.account_sequence, at, Data::Order(&body));
    Some((order.account, change))
}

fn fill_change(
    state: &State,
    trade: &Trade,
    liquidity: Liquidity,
    at: At,
) -> Option<(AccountId, Change)> {
    let body = MarketWords::of(state, trade.market)?.fill(trade, liquidity);
    let (account, number) = match liquidity {
        Liquidity::Taker => (trade.taker_account, trade.taker_account_sequence),
        Liquidity::Maker => (trade.maker_account, trade.maker_account_sequence),
    };
    Some((account, change(Own::Fills, number, at, Data::Fill(&body))))
}

fn balance_change(
    state: &State,
    effect: &engine::BalanceEffect,
    at: At,
) -> Option<(AccountId, Change)> {
    let asset = state.assets().get(usize::from(effect.asset.get()))?;
    let body = render::balance(asset, effect.balance);
    let change = change(Own::Balances, effect.account_sequence, at, Data::Balance(&body));
    Some((effect.account, change))
}

fn withdrawal_change(
    state: &State,
    view: &engine::WithdrawalView,
    at: At,
) -> Option<(AccountId, Change)> {
    let body = withdrawal(state, view)?;
    let change = change(Own::Withdrawals, view.account_sequence, at, Data::Withdrawal(&body));
    Some((view.account, change))
}

fn withdrawal(state: &State, view: &engine::WithdrawalView) -> Option<Withdrawal> {
    let asset = state.assets().get(usize::from(view.asset.get()))?;
    Some(Withdrawal {
        id: id::to_uuid(view.id),
        asset: asset.symbol.to_string(),
        amount: decimal::format_amount(asset, view.amount),
        state: view.state.into(),
    })
}
