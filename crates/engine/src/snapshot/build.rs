//! A state from its records.

use std::collections::BTreeMap;

use ledger::{AccountIndex, Ledger};
use units::{AccountId, MarketId, QuantityLots};

use super::{BadSnapshot, OrderRecord, Record};
use crate::command::TimeInForce;
use crate::config::Settings;
use crate::state::{
    ClientEntry, ClientIds, Extra, Known, Market, Order, OrderIds, Salt, State, Sweep, TradeSecond,
    Window, Withdrawal,
};

/// Rebuilds a state from its records.
#[derive(Debug, Default)]
pub struct StateBuilder {
    state: State,
    records: u64,
    account: Option<AccountIndex>,
    /// Open orders of each account in the order of arrival, linked when all are known.
    own: BTreeMap<(AccountIndex, MarketId), Vec<(u64, u32)>>,
    ended: bool,
}

type Built = Result<(), BadSnapshot>;

impl StateBuilder {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    ///
    /// # Errors
    ///
    /// [`BadSnapshot`] when the record cannot follow those before it.
    pub fn push(&mut self, record: Record) -> Built {
        ensure(!self.ended, "a record follows the end")?;
        let first = self.records == 0;
        ensure(first == matches!(record, Record::Head { .. }), "the head comes first, and once")?;
        if let Record::End { records } = record {
            self.ended = true;
            return ensure(records == self.records, "the stream lacks records");
        }
        self.records = self.records.saturating_add(1);
        let state = &mut self.state;
        match record {
            Record::Head { sequence, time, settings, limits, arrivals } => {
                seed(state, settings);
                (state.sequence, state.time) = (sequence, time);
                (state.limits, state.arrivals) = (limits, arrivals);
            }
            Record::Asset { config, outside } => {
                let id = u16::try_from(state.assets.len()).map_err(|_| BadSnapshot("assets"))?;
                ensure(outside <= 0, "the outside world has more than nothing")?;
                state.ledger.restore_outside(units::AssetId::new(id), outside);
                state.assets.push(config);
            }
            Record::Market { .. } => push_market(state, record)?,
            Record::TradeSecond { market, second, tick_lots, lots, reference_before } => {
                ensure(lots > 0, "a second of trades without a lot")?;
                let entry = TradeSecond { second, tick_lots, lots, reference_before };
                known_market(state, market)?.trades.restore(entry);
            }
            Record::Account { id, flags, account_sequence, rate_second, rate_count } => {
                ensure(state.ledger.find(id).is_none(), "an account comes twice")?;
                let index = state.open_account(id);
                state.ledger.restore_sequence(index, account_sequence);
                let info = state.info_mut(index);
                info.flags = flags;
                (info.rate_second, info.rate_count) = (rate_second, rate_count);
                self.account = Some(index);
            }
            Record::Balance { asset, balance } => {
                let account = self.account.ok_or(BadSnapshot("a balance without an account"))?;
                let known = usize::from(asset.get()) < state.assets.len();
                ensure(known, "a balance of an unknown asset")?;
                state.ledger.restore_balance(account, asset, balance);
            }
            Record::Order(order) => self.push_order(order)?,
            record => push_tail(state, record)?,
        }
        Ok(())
    }

    /// Returns the state.
    ///
    /// # Errors
    ///
    /// [`BadSnapshot`] when the stream is cut short, or what it says breaks an invariant of the state.
    pub fn finish(mut self) -> Result<State, BadSnapshot> {
        ensure(self.ended, "the stream is cut short")?;
        self.state.markets.iter_mut().for_each(Market::note_rules);
        for ((_, market), mut orders) in std::mem::take(&mut self.own) {
            orders.sort_unstable();
            for (_, slot) in orders {
                self.state.link_own(market, slot);
            }
        }
        match self.state.check() {
            Ok(()) => Ok(self.state),
            Err(_) => Err(BadSnapshot("an invariant of the state does not hold")),
        }
    }

    fn push_order(&mut self, record: OrderRecord) -> Built {
        let state = &mut self.state;
        let account = state.ledger.find(record.account);
        let account = account.ok_or(BadSnapshot("an order of an unknown account"))?;
        ensure(state.find_order(record.id).is_none(), "an order comes twice")?;
        let price = record.price.ok_or(BadSnapshot("an order without a price"))?;
        let left = record.quantity.checked_sub(record.filled).unwrap_or(QuantityLots::ZERO);
        let shown = !record.visible.is_zero() && record.visible <= left;
        ensure(shown, "an order that shows nothing, or more than it has")?;
        let extra = Extra {
            time_in_force: record.time_in_force,
            display: record.display,
            trigger: record.trigger,
            waits: record.waits,
            quote_amount: None,
        };
        ensure(!record.waits || record.trigger.is_some(), "an order waits for no trigger")?;
        if let Some(client_order_id) = record.client_order_id.clone() {
            let (order, body_hash) = (record.id, record.body_hash);
            let account = record.account;
            insert_client(state, ClientEntry { account, client_order_id, order, body_hash })?;
        }
        let market = known_market(state, record.market)?;
        ensure(market.config.notional(price, left).is_some(), "an order's notional overflows")?;
        ensure(market.config.base_amount(left).is_some(), "an order's quantity overflows")?;
        let slot = market.orders.insert(Order {
            id: record.id,
            filled_notional: record.filled_notional,
            order_id: record.order_id,
            price,
            quantity: record.quantity,
            filled: record.filled,
            created_at: record.created_at,
            created_in: record.created_in,
            arrival: record.arrival,
            client_order_id: record.client_order_id,
            extra: (extra != Extra::PLAIN).then(|| Box::new(extra)),
            account,
            own_place: 0,
            side: record.side,
            order_type: record.order_type,
            self_trade_prevention: record.self_trade_prevention,
            post_only: record.post_only,
        });
        if record.waits {
            market.insert_stop(slot);
        } else {
            let room = market.book.has_room(record.side, price, record.visible);
            ensure(room, "a level's quantity overflows")?;
            market.book.insert(slot, record.side, price, record.visible, account.get());
        }
        if let TimeInForce::Gtd(end) = record.time_in_force {
            state.expiries.insert((end, record.arrival), (record.market, slot));
        }
        let hash = state.salt.hash(record.id);
        state.order_ids.insert(hash, (record.market, slot));
        let own = self.own.entry((account, record.market)).or_default();
        own.push((record.arrival, slot));
        Ok(())
    }
}

/// Seeds the state's tables with the journal's salt.
pub(crate) fn seed(state: &mut State, settings: Option<Settings>) {
    let salt = settings.map_or(0, |settings| settings.salt);
    state.settings = settings;
    state.salt = Salt::new(salt);
    state.ledger = Ledger::new(salt);
    state.known = Window::new(state.salt);
    state.client_ids = ClientIds::new(salt);
    state.order_ids = OrderIds::default();
}

fn push_market(state: &mut State, record: Record) -> Built {
    let Record::Market {
        config,
        state: market_state,
        last_order_id,
        last_trade_id,
        update_id,
        last_price,
        halt_due,
    } = record
    else {
        return Err(BadSnapshot("not a market"));
    };
    let known = |asset: units::AssetId| usize::from(asset.get()) < state.assets.len();
    ensure(known(config.base) && known(config.quote), "a market of an unknown asset")?;
    let id = u16::try_from(state.markets.len()).map_err(|_| BadSnapshot("markets"))?;
    let mut market = Market::new(MarketId::new(id), config);
    market.state = market_state;
    (market.last_order_id, market.last_trade_id) = (last_order_id, last_trade_id);
    (market.update_id, market.last_price) = (update_id, last_price);
    market.halt_due = halt_due;
    state.markets.push(market);
    Ok(())
}

fn push_tail(state: &mut State, record: Record) -> Built {
    match record {
        Record::ClosedClientId { account, client_order_id, order, body_hash, closed_at } => {
            let id = client_order_id.clone();
            insert_client(state, ClientEntry { account, client_order_id, order, body_hash })?;
            state.client_ids.close(account, id, closed_at);
        }
        Record::Known { id, body_hash, outcome, time } => {
            ensure(state.known.get(id).is_none(), "a known command comes twice")?;
            state.known.push(state.salt.hash(id), Known { id, body_hash, outcome, time });
        }
        Record::RememberedCancel { order, account, expires_at } => {
            let before = state.remembered.insert(order, (account, expires_at));
            ensure(before.is_none(), "a remembered cancel comes twice")?;
            state.remembered_expiries.insert((expires_at, order));
        }
        Record::Sweep { account, market, before_arrival } => {
            known_account(state, account)?;
            state.sweeps.push_back(Sweep { account, market, before_arrival });
        }
        Record::Withdrawal { id, account, asset, amount, state: withdrawal_state } => {
            let account = known_account(state, account)?;
            let withdrawal = Withdrawal { account, asset, amount, state: withdrawal_state };
            let before = state.withdrawals.insert(id, withdrawal);
            ensure(before.is_none(), "a withdrawal comes twice")?;
        }
        Record::DepositReference(reference) => {
            ensure(state.deposit_references.insert(reference), "a deposit comes twice")?;
        }
        Record::AuditHead(head) => {
            ensure(head.rows > 0, "an audit head of no rows")?;
            ensure(state.audit_head.replace(head).is_none(), "an audit head comes twice")?;
        }
        _ => return Err(BadSnapshot("a record out of its place")),
    }
    Ok(())
}

fn insert_client(state: &mut State, entry: ClientEntry) -> Built {
    let taken = state.client_ids.get(entry.account, &entry.client_order_id).is_some();
    ensure(!taken, "a client order id comes twice")?;
    state.client_ids.insert(entry);
    Ok(())
}

fn known_market(state: &mut State, market: MarketId) -> Result<&mut Market, BadSnapshot> {
    let found = state.markets.get_mut(usize::from(market.get()));
    found.ok_or(BadSnapshot("a record of an unknown market"))
}

fn known_account(state: &State, account: AccountId) -> Result<AccountIndex, BadSnapshot> {
    state.ledger.find(account).ok_or(BadSnapshot("a record of an unknown account"))
}

fn ensure(holds: bool, otherwise: &'static str) -> Built {
    if holds { Ok(()) } else { Err(BadSnapshot(otherwise)) }
}
