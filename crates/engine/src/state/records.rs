//! The state as its canonical stream of records.

use book::Side;
use ledger::AccountIndex;
use units::AssetId;

use super::{Market, Order, State};
use crate::snapshot::{OrderRecord, Record};

impl State {
    /// Returns the canonical stream of records that [`crate::StateBuilder`] takes.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let mut body = self
            .heads()
            .chain(self.account_indices().flat_map(|index| self.account_records(index)))
            .chain(self.markets.iter().flat_map(|market| self.order_records(market)))
            .chain(self.tail());
        let mut records = 0_u64;
        let mut ended = false;
        core::iter::from_fn(move || {
            let next = body.next();
            if next.is_some() {
                records = records.saturating_add(1);
                return next;
            }
            let end = (!ended).then_some(Record::End { records });
            ended = true;
            end
        })
    }

    fn heads(&self) -> impl Iterator<Item = Record> + '_ {
        let head = Record::Head {
            sequence: self.sequence,
            time: self.time,
            settings: self.settings,
            limits: self.limits,
            arrivals: self.arrivals,
        };
        let assets = self.assets.iter().enumerate().map(|(at, config)| {
            let id = AssetId::new(u16::try_from(at).expect("assets fit 16 bits"));
            Record::Asset { config: config.clone(), outside: self.ledger.outside(id) }
        });
        let markets = self.markets.iter().flat_map(|market| {
            let seconds = market.trades.seconds().map(|entry| Record::TradeSecond {
                market: market.id,
                second: entry.second,
                tick_lots: entry.tick_lots,
                lots: entry.lots,
                reference_before: entry.reference_before,
            });
            core::iter::once(market_record(market)).chain(seconds)
        });
        core::iter::once(head).chain(assets).chain(markets)
    }

    fn account_records(&self, index: AccountIndex) -> impl Iterator<Item = Record> + '_ {
        let info = self.info(index);
        let account = Record::Account {
            id: self.ledger.id(index),
            flags: info.flags,
            account_sequence: self.ledger.sequence(index),
            rate_second: info.rate_second,
            rate_count: info.rate_count,
        };
        let balances = self.ledger.balances(index);
        core::iter::once(account)
            .chain(balances.map(|(asset, balance)| Record::Balance { asset, balance }))
    }

    fn order_records<'a>(&'a self, market: &'a Market) -> impl Iterator<Item = Record> + 'a {
        let resting = [Side::Buy, Side::Sell]
            .into_iter()
            .flat_map(|side| market.book.queues(side).flat_map(|(_, queue)| queue))
            .map(|entry| entry.key);
        // Few wait, so sorting them costs nothing.
        let mut stops: Vec<_> =
            market.buy_stops.values().chain(market.sell_stops.values()).copied().collect();
        stops.sort_unstable_by_key(|&slot| market.orders.get(slot).arrival);
        resting.chain(stops).map(move |slot| {
            let order = market.orders.get(slot);
            let visible = if order.waits() { order.remaining() } else { market.book.visible(slot) };
            Record::Order(self.order_record(market, order, visible))
        })
    }

    fn order_record(
        &self,
        market: &Market,
        order: &Order,
        visible: units::QuantityLots,
    ) -> OrderRecord {
        let extra = order.extra();
        let account = self.ledger.id(order.account);
        let client = order.client_order_id.as_ref();
        let body_hash = client.and_then(|id| self.client_order_body_hash(account, id)).unwrap_or(0);
        OrderRecord {
            id: order.id,
            order_id: order.order_id,
            market: market.id,
            account,
            side: order.side,
            order_type: order.order_type,
            time_in_force: extra.time_in_force,
            post_only: order.post_only,
            self_trade_prevention: order.self_trade_prevention,
            price: Some(order.price),
            quantity: order.quantity,
            filled: order.filled,
            filled_notional: order.filled_notional,
            visible,
            display: extra.display,
            trigger: extra.trigger,
            waits: extra.waits,
            hold: order.hold(&market.config),
            client_order_id: order.client_order_id.clone(),
            body_hash,
            created_at: order.created_at,
            created_in: order.created_in,
            arrival: order.arrival,
        }
    }

    fn tail(&self) -> impl Iterator<Item = Record> + '_ {
        let closed = self.client_ids.closed().map(|(closed_at, entry)| Record::ClosedClientId {
            account: entry.account,
            client_order_id: entry.client_order_id.clone(),
            order: entry.order,
            body_hash: entry.body_hash,
            closed_at,
        });
        let known = self.known.iter().map(|known| Record::Known {
            id: known.id,
            body_hash: known.body_hash,
            outcome: known.outcome,
            time: known.time,
        });
        let cancels = self.remembered_expiries.iter().map(|&(expires_at, order)| {
            let account = self.remembered.get(&order).expect("both lists name the same cancels").0;
            Record::RememberedCancel { order, account, expires_at }
        });
        let sweeps = self.sweeps.iter().map(|sweep| Record::Sweep {
            account: sweep.account,
            market: sweep.market,
            before_arrival: sweep.before_arrival,
        });
        let withdrawals = self.withdrawals.iter().map(|(&id, withdrawal)| Record::Withdrawal {
            id,
            account: self.ledger.id(withdrawal.account),
            asset: withdrawal.asset,
            amount: withdrawal.amount,
            state: withdrawal.state,
        });
        let references = self.deposit_references.iter().copied().map(Record::DepositReference);
        // Nothing where none was noted, so that states without one have the hash that they always had.
        let audit_head = self.audit_head.map(Record::AuditHead);
        closed
            .chain(known)
            .chain(cancels)
            .chain(sweeps)
            .chain(withdrawals)
            .chain(references)
            .chain(audit_head)
    }
}

fn market_record(market: &Market) -> Record {
    Record::Market {
        config: market.config.clone(),
        state: market.state,
        last_order_id: market.last_order_id,
        last_trade_id: market.last_trade_id,
        update_id: market.update_id,
        last_price: market.last_price,
        halt_due: market.halt_due,
    }
}
