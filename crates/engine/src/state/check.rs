//! Every invariant over the whole state.

use std::collections::BTreeMap;

use book::Side;
use units::{AccountId, Amount, AssetId, CommandId, QuantityLots, SignedAmount};

use super::{Market, State};

impl State {
    /// Checks every invariant over the whole state: assets sum to zero, held is the sum of the open holds, the
    /// books are not crossed, all cross-references agree.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold, in words, with the account, asset or order.
    pub fn check(&self) -> Result<(), String> {
        let mut held = BTreeMap::new();
        for market in &self.markets {
            self.check_market(market, &mut held)?;
        }
        for (id, withdrawal) in &self.withdrawals {
            let account = self.ledger.id(withdrawal.account);
            add(&mut held, (account, withdrawal.asset), withdrawal.amount)
                .map_err(|()| format!("withdrawal {id}: its hold overflows"))?;
        }
        self.check_ledger(&held)?;
        let open: usize = self.markets.iter().map(|market| market.orders.len()).sum();
        ensure(self.order_ids.len() == open, || {
            format!("{} orders are found by id, {open} are open", self.order_ids.len())
        })
    }

    /// Returns for each asset the sum over all accounts, the outside world included. Anything but zero is a defect.
    #[must_use]
    pub fn sums(&self) -> Vec<SignedAmount> {
        self.ledger.imbalances(u16::try_from(self.assets.len()).expect("assets fit 16 bits"))
    }

    fn check_ledger(&self, held: &BTreeMap<(AccountId, AssetId), Amount>) -> Result<(), String> {
        for (at, asset) in self.assets.iter().enumerate() {
            let id = AssetId::new(u16::try_from(at).expect("assets fit 16 bits"));
            let imbalance = self.ledger.imbalance(id);
            ensure(imbalance == 0, || {
                format!("asset {}: all accounts sum to {imbalance}, not to zero", asset.symbol)
            })?;
        }
        for account in self.accounts() {
            for (asset, balance) in self.balances(account.id) {
                let expected = held.get(&(account.id, asset)).copied().unwrap_or(Amount::ZERO);
                ensure(balance.held == expected, || {
                    let (id, held) = (account.id, balance.held);
                    format!(
                        "account {id}, asset {asset}: {held} is held, the open holds are {expected}"
                    )
                })?;
            }
        }
        Ok(())
    }

    fn check_market(
        &self,
        market: &Market,
        held: &mut BTreeMap<(AccountId, AssetId), Amount>,
    ) -> Result<(), String> {
        let symbol = &market.config.symbol;
        let (bid, ask) = (market.book.best(Side::Buy), market.book.best(Side::Sell));
        if let (Some(bid), Some(ask)) = (bid, ask) {
            ensure(bid < ask, || format!("market {symbol}: bid {bid} crosses ask {ask}"))?;
        }
        ensure((market.reference, market.bounds) == market.measure(), || {
            format!("market {symbol}: its band is not up to date")
        })?;
        let mut resting = 0_usize;
        for side in [Side::Buy, Side::Sell] {
            for (price, queue) in market.book.queues(side) {
                for entry in queue {
                    let order = market.orders.get(entry.key);
                    resting = resting.saturating_add(1);
                    let fits = order.price == price
                        && order.side == side
                        && order.account.get() == entry.owner
                        && entry.visible <= order.remaining();
                    ensure(fits, || misplaced(symbol, order.id))?;
                }
            }
        }
        let open = market.orders.len();
        ensure(resting.checked_add(market.stops()) == Some(open), || {
            format!("market {symbol}: {open} orders are open, {resting} rest or wait")
        })?;
        for (slot, order) in market.orders.iter() {
            let live = order.remaining() > QuantityLots::ZERO
                && order.waits() != market.book.contains(slot)
                && self.find_order(order.id).is_some_and(|(_, found)| found == slot);
            ensure(live, || misplaced(symbol, order.id))?;
            let asset = match order.side {
                Side::Buy => market.config.quote,
                Side::Sell => market.config.base,
            };
            let account = self.ledger.id(order.account);
            add(held, (account, asset), order.hold(&market.config))
                .map_err(|()| format!("order {}: its hold overflows", order.id))?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn misplaced(symbol: &str, order: CommandId) -> String {
    format!("market {symbol}: order {:032x} does not stand where its record says", order.get())
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Amount>, key: K, amount: Amount) -> Result<(), ()> {
    let sum = sums.entry(key).or_insert(Amount::ZERO);
    *sum = sum.checked_add(amount).ok_or(())?;
    Ok(())
}
