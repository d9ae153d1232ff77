//! The engine and the naive exchange side by side: each command goes through both, and all that can be asked of
//! the two is compared after it. Beside them run a follower, which only evolves, and a mirror, which only listens.

use std::collections::BTreeMap;

use engine::*;
use journal::{Batch, Entry, RULES, state_hash};
use units::*;

use crate::naive::Naive;

/// What a listener makes of the effects alone, as the projections and the market data do.
#[derive(Debug, Default)]
struct Mirror {
    balances: BTreeMap<(AccountId, AssetId), Balance>,
    orders: BTreeMap<CommandId, OrderView<'static>>,
    levels: BTreeMap<(MarketId, bool, PriceTicks), QuantityLots>,
    update_ids: BTreeMap<MarketId, u64>,
    account_sequences: BTreeMap<AccountId, u64>,
    trades: BTreeMap<MarketId, u64>,
}

impl Mirror {
    fn listen(&mut self, effects: &Effects) {
        let mut sums: BTreeMap<(u32, AssetId), SignedAmount> = BTreeMap::new();
        for posting in &effects.postings {
            *sums.entry((posting.at, posting.asset)).or_default() += posting.amount;
        }
        assert!(sums.values().all(|sum| *sum == 0), "every entry's postings sum to zero");

        let mut numbers: BTreeMap<AccountId, Vec<u64>> = BTreeMap::new();
        let mut number = |account, sequence| numbers.entry(account).or_default().push(sequence);
        for effect in &effects.balances {
            assert_ne!(effect.account, AccountId::OUTSIDE, "the outside world has no wallet");
            self.balances.insert((effect.account, effect.asset), effect.balance);
            number(effect.account, effect.account_sequence);
        }
        for (_, order) in &effects.orders {
            number(order.account, order.account_sequence);
            if matches!(order.status, OrderStatus::Open | OrderStatus::PartiallyFilled) {
                self.orders.insert(order.id, order.clone());
            } else {
                self.orders.remove(&order.id);
            }
        }
        for (_, trade) in &effects.trades {
            let last = self.trades.entry(trade.market).or_default();
            assert_eq!(trade.trade_id.get(), *last + 1, "trade ids have no gaps");
            *last = trade.trade_id.get();
            number(trade.taker_account, trade.taker_account_sequence);
            number(trade.maker_account, trade.maker_account_sequence);
        }
        for withdrawal in &effects.withdrawals {
            number(withdrawal.account, withdrawal.account_sequence);
        }
        for (account, mut told) in numbers {
            // Who resumes a stream after a number must be able to tell that nothing is missing.
            told.sort_unstable();
            let last = self.account_sequences.entry(account).or_default();
            let expected: Vec<u64> = (*last + 1..).take(told.len()).collect();
            assert_eq!(told, expected, "account {account}'s numbers come one by one");
            *last += told.len() as u64;
        }
        for change in &effects.levels {
            let last = self.update_ids.entry(change.market).or_default();
            assert_eq!(change.update_id, *last + 1, "book updates have no gaps");
            *last = change.update_id;
            let key = (change.market, change.side == Side::Buy, change.price);
            self.levels.insert(key, change.quantity);
            if change.quantity.is_zero() {
                self.levels.remove(&key);
            }
        }
    }

    fn check(&self, state: &State) {
        for ((account, asset), balance) in &self.balances {
            assert_eq!(state.balance(*account, *asset), *balance, "{account} {asset}");
        }
        for (account, sequence) in &self.account_sequences {
            let view = state.account(*account).expect("who has effects has an account");
            assert_eq!(view.account_sequence, *sequence, "account {account}");
        }
        for market in state.markets() {
            let told = self.update_ids.get(&market.id).copied().unwrap_or_default();
            assert_eq!(market.update_id, told);
            for side in [Side::Buy, Side::Sell] {
                let told = self.levels.range(
                    (market.id, side == Side::Buy, PriceTicks::MIN)
                        ..=(market.id, side == Side::Buy, PriceTicks::MAX),
                );
                let told: BTreeMap<_, _> =
                    told.map(|((_, _, price), quantity)| (*price, *quantity)).collect();
                let real: BTreeMap<_, _> = state
                    .depth(market.id, side)
                    .map(|level| (level.price, level.quantity))
                    .collect();
                assert_eq!(told, real, "the visible book of {} {side:?}", market.config.symbol);
            }
        }
    }
}

/// The two, and what follows them.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) naive: Naive,
    pub(crate) state: State,
    follower: State,
    mirror: Mirror,
    pub(crate) entries: Vec<Entry>,
    pub(crate) journal: Vec<Batch>,
    /// What was decided, for the tests of the generator itself.
    pub(crate) decisions: Vec<Decision>,
}

impl Pair {
    pub(crate) fn new(time: Time) -> Self {
        let mut pair = Self {
            naive: Naive::new(),
            state: State::new(),
            follower: State::new(),
            mirror: Mirror::default(),
            entries: Vec::new(),
            journal: Vec::new(),
            decisions: Vec::new(),
        };
        pair.open(time);
        pair
    }

    fn open(&mut self, time: Time) {
        let sequence = self.naive.sequence.next();
        self.naive.open_batch(sequence, time);
        self.state.open_batch(Stamp { sequence, time });
        self.follower.open_batch(Stamp { sequence, time });
    }

    /// Ends the batch, and begins the next one `micros` later.
    pub(crate) fn next_batch(&mut self, micros: u64) {
        self.close_batch();
        self.open(self.naive.now.plus_micros(micros));
        self.own_work();
    }

    /// Ends the batch, and goes on from what a snapshot of it says, as after a crash.
    pub(crate) fn restart(&mut self) {
        self.close_batch();
        self.state = crate::properties::through_snapshot(&self.state);
        self.open(self.naive.now);
        self.own_work();
    }

    /// Ends the batch for good.
    pub(crate) fn close_batch(&mut self) {
        assert_eq!(state_hash(&self.follower), state_hash(&self.state), "a follower agrees");
        self.journal.push(Batch {
            sequence: self.naive.sequence,
            time: self.naive.now,
            incarnation: 1,
            epoch: 1,
            rules: RULES,
            entries: std::mem::take(&mut self.entries),
        });
    }

    /// Sends a command from outside through both, then what the state has to do of itself.
    pub(crate) fn client(&mut self, command: &Command) -> Decision {
        let decision = self.both(command);
        self.own_work();
        decision
    }

    fn own_work(&mut self) {
        for _ in 0..10_000 {
            let expected = self.naive.next_internal();
            let action = next_internal(&self.state);
            assert_eq!(action, expected, "the state's own work");
            let Some(action) = action else {
                return;
            };
            self.both(&internal_command(action));
        }
        panic!("the state's own work comes to an end");
    }

    fn both(&mut self, command: &Command) -> Decision {
        let decided = decide(&self.state, command);
        let mut effects = Effects::default();
        let decision = run(&mut self.state, command, &mut effects);
        assert_eq!(decision, decided, "to run is to decide and to evolve: {command:?}");
        let expected = self.naive.run(command);
        assert_eq!(decision, expected, "engine left, naive right, for {command:?}");
        if let Decision::Event(event) = &decision {
            evolve(&mut self.follower, command, event, &mut ());
            let entry = Entry { command: command.clone(), event: event.clone() };
            self.entries.push(entry);
        }
        self.mirror.listen(&effects);
        self.compare(command);
        self.decisions.push(decision.clone());
        decision
    }

    fn compare(&self, command: &Command) {
        if let Err(broken) = self.state.check() {
            panic!("{broken}, after {command:?}");
        }
        let (state, naive) = (&self.state, &self.naive);
        let accounts = naive.accounts.keys().copied().chain([AccountId::FEES]);
        let assets = || (0_u16..).map(AssetId::new).zip(&naive.assets).map(|(id, _)| id);
        for account in accounts {
            for asset in assets() {
                let purse = naive.purse(account, asset);
                let balance = state.balance(account, asset);
                assert_eq!(
                    (balance.available.get(), balance.held.get()),
                    (purse.available, purse.held),
                    "account {account}, asset {asset}, after {command:?}"
                );
            }
            self.compare_orders(account, command);
        }
        for asset in assets() {
            let outside = naive.outside.get(&asset).copied().unwrap_or_default();
            assert_eq!(state.outside(asset), outside, "the outside world's {asset}");
        }
        for (id, market) in (0_u16..).map(MarketId::new).zip(&naive.markets) {
            let view = state.market(id).expect("both know the market");
            assert_eq!(view.config, &market.config);
            assert_eq!(view.state, market.state, "after {command:?}");
            assert_eq!(view.last_price.map(PriceTicks::get), market.last_price);
            let reference = market.reference(naive.now.seconds());
            assert_eq!(view.reference.map(PriceTicks::get), reference, "after {command:?}");
            for side in [Side::Buy, Side::Sell] {
                let levels: Vec<_> = state
                    .depth(id, side)
                    .map(|level| (level.price.get(), level.quantity.get(), level.orders))
                    .collect();
                assert_eq!(levels, naive.depth(id, side), "depth after {command:?}");
                let resting: Vec<_> = state.resting(id, side).map(|order| order.id).collect();
                let queue: Vec<_> = naive.queue(id, side).iter().map(|order| order.id).collect();
                assert_eq!(resting, queue, "priority after {command:?}");
            }
        }
        if command.origin == Origin::Client {
            let known = naive.known.get(&command.id).map(|(body_hash, outcome, _)| KnownCommand {
                body_hash: *body_hash,
                outcome: *outcome,
            });
            assert_eq!(state.known(command.id), known);
        }
        let withdrawals: Vec<_> = state.withdrawals().map(|view| (view.id, view.state)).collect();
        let expected: Vec<_> = naive.withdrawals.iter().map(|(id, w)| (*id, w.state)).collect();
        assert_eq!(withdrawals, expected);
        assert_eq!(state.audit_head(), naive.audit_heads.last().copied());
        self.mirror.check(state);
    }

    fn compare_orders(&self, account: AccountId, command: &Command) {
        let mut expected: Vec<_> =
            self.naive.orders.iter().filter(|order| order.new.account == account).collect();
        expected.sort_by_key(|order| (order.new.market, order.order_id));
        let open: Vec<_> = self.state.open_orders(account).collect();
        assert_eq!(
            open.iter().map(|order| order.id).collect::<Vec<_>>(),
            expected.iter().map(|order| order.id).collect::<Vec<_>>(),
            "open orders of {account}, after {command:?}"
        );
        for (view, order) in open.iter().zip(expected) {
            let facts = (view.order_id.get(), view.filled.get(), view.filled_notional.get());
            assert_eq!(facts, (order.order_id, order.filled, order.filled_notional));
            assert_eq!(view.quantity.get(), order.quantity);
            assert_eq!(view.price, order.new.price);
            assert_eq!(view.trigger, order.new.trigger);
            let stop = order.new.trigger.is_some();
            assert_eq!(view.triggered, stop && !order.waits);
            let status =
                if order.filled > 0 { OrderStatus::PartiallyFilled } else { OrderStatus::Open };
            assert_eq!(view.status, status);
            let told = self.mirror.orders.get(&view.id).expect("every open order was told of");
            let told_facts = (told.order_id.get(), told.filled.get(), told.filled_notional.get());
            assert_eq!(told_facts, facts, "what was told of order {}", view.id);
            assert_eq!((told.quantity, told.price), (view.quantity, view.price));
        }
    }
}
