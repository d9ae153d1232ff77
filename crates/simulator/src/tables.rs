//! Projections as maps: what the tables of `store::projections` say, made from the same effects.

use std::collections::BTreeMap;

use engine::{Action, Event, OrderStatus};
use journal::Applied;
use units::{AccountId, Amount, AssetId, Balance, CommandId, MarketId, Sequence, Time, TradeId};

/// One generation of projections, with its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// The last row that is in them.
    pub(crate) progress: Sequence,
    /// That row's time.
    pub(crate) time: Time,
    /// Orders: the row that decided each, where it stands (`None`: refused), and what is filled.
    pub(crate) orders: BTreeMap<CommandId, OrderRow>,
    /// Deposits, withdrawals and transfers, refused ones included: the row that decided each.
    pub(crate) money: BTreeMap<CommandId, Sequence>,
    /// How often each trade was written, which is once.
    pub(crate) trades: BTreeMap<(MarketId, TradeId), u32>,
    /// Balances.
    pub(crate) balances: BTreeMap<(AccountId, AssetId), Balance>,
    /// The sums of all postings.
    pub(crate) postings: BTreeMap<(AccountId, AssetId), i128>,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderRow {
    pub(crate) decided_in: Sequence,
    pub(crate) status: Option<OrderStatus>,
    pub(crate) filled: u64,
}

impl Tables {
    /// Writes a batch that has been followed, and moves the progress.
    pub(crate) fn write(&mut self, applied: &Applied) {
        let batch = &applied.batch;
        for entry in &batch.entries {
            let id = entry.command.id;
            let refused = matches!(entry.event, Event::Rejected(_));
            match entry.command.action {
                // A refusal never takes the place of a row that is there.
                Action::PlaceOrder(_) if refused => {
                    let row = OrderRow { decided_in: batch.sequence, status: None, filled: 0 };
                    self.orders.entry(id).or_insert(row);
                }
                Action::Deposit { .. }
                | Action::Transfer { .. }
                | Action::RequestWithdrawal { .. } => {
                    self.money.entry(id).or_insert(batch.sequence);
                }
                _ => {}
            }
        }
        for (_, order) in &applied.effects.orders {
            let row = OrderRow {
                decided_in: order.created_in,
                status: Some(order.status),
                filled: order.filled.get(),
            };
            self.orders.insert(order.id, row);
        }
        for (_, trade) in &applied.effects.trades {
            *self.trades.entry((trade.market, trade.trade_id)).or_default() += 1;
        }
        for effect in &applied.effects.balances {
            self.balances.insert((effect.account, effect.asset), effect.balance);
        }
        for posting in &applied.effects.postings {
            let sum = self.postings.entry((posting.account, posting.asset)).or_default();
            *sum += posting.amount;
        }
        self.progress = batch.sequence;
        self.time = batch.time;
    }

    /// Returns the row that decided a command, by what is kept for ever.
    pub(crate) fn decided_in(&self, id: CommandId) -> Option<Sequence> {
        let order = self.orders.get(&id).map(|order| order.decided_in);
        order.or_else(|| self.money.get(&id).copied())
    }

    /// Checks what the tables say against one another.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some((trade, times)) = self.trades.iter().find(|(_, times)| **times != 1) {
            return Err(format!("trade {trade:?} was written {times} times"));
        }
        let mut sums: BTreeMap<AssetId, i128> = BTreeMap::new();
        for ((account, asset), sum) in &self.postings {
            *sums.entry(*asset).or_default() += sum;
            if *account == AccountId::OUTSIDE {
                continue;
            }
            let balance = self.balances.get(&(*account, *asset)).copied().unwrap_or_default();
            if signed(balance.total()) != *sum {
                return Err(format!(
                    "account {account}, asset {asset}: the postings sum to {sum}, the balance is {}",
                    balance.total().get()
                ));
            }
        }
        match sums.into_iter().find(|(_, sum)| *sum != 0) {
            Some((asset, sum)) => {
                Err(format!("asset {asset}: all postings sum to {sum}, not zero"))
            }
            None => Ok(()),
        }
    }
}

fn signed(amount: Amount) -> i128 {
    i128::try_from(amount.get()).expect("amounts of a run are small")
}
