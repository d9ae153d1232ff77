//! The effects of a batch, collected once for everybody who follows it.

use units::{AccountId, AssetId, Balance, CommandId, MarketId, SignedAmount, Time, TradeId};

use crate::observe::{
    LedgerEntry, LevelChange, Observer, OrderView, Trade, TransferKind, WithdrawalView,
};

/// What [`crate::evolve`] told about the commands of one batch, in the order in which it happened.
///
/// Set [`Effects::at`] to the command's place in the batch before each call of `evolve`.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The place in the batch of the command whose effects come now.
    pub at: u32,
    /// The parts of every ledger entry.
    pub postings: Vec<PostingEffect>,
    /// Balances after each change.
    pub balances: Vec<BalanceEffect>,
    /// Orders after each change, with the command's place.
    pub orders: Vec<(u32, OrderView<'static>)>,
    /// Trades, with the command's place.
    pub trades: Vec<(u32, Trade)>,
    /// Levels of the visible books after each change.
    pub levels: Vec<LevelChange>,
    /// Withdrawals after each change.
    pub withdrawals: Vec<WithdrawalView>,
    /// Assets that were defined or changed.
    pub assets: Vec<AssetId>,
    /// Markets whose rules or state changed.
    pub markets: Vec<MarketId>,
    /// Accounts that were opened or whose flags changed.
    pub accounts: Vec<AccountId>,
}

/// One posting, with the entry it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingEffect {
    /// The command's place in the batch.
    pub at: u32,
    /// Why the money moved.
    pub kind: TransferKind,
    /// The command that caused it.
    pub reference: CommandId,
    /// The trade that it settles.
    pub trade: Option<(MarketId, TradeId)>,
    /// Journal time.
    pub time: Time,
    /// Whose balance.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// The change of the total, in ledger units.
    pub amount: SignedAmount,
}

/// One balance after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceEffect {
    /// The command's place in the batch.
    pub at: u32,
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// The balance.
    pub balance: Balance,
    /// The account's counter after the change.
    pub account_sequence: u64,
}

impl Observer for Effects {
    fn entry(&mut self, entry: &LedgerEntry<'_>) {
        let at = self.at;
        self.postings.extend(entry.postings.iter().map(|posting| PostingEffect {
            at,
            kind: entry.kind,
            reference: entry.reference,
            trade: entry.trade,
            time: entry.time,
            account: posting.account,
            asset: posting.asset,
            amount: posting.amount,
        }));
    }

    fn balance(&mut self, account: AccountId, asset: AssetId, balance: Balance, sequence: u64) {
        let at = self.at;
        self.balances.push(BalanceEffect {
            at,
            account,
            asset,
            balance,
            account_sequence: sequence,
        });
    }

    fn order(&mut self, order: &OrderView<'_>) {
        self.orders.push((self.at, order.to_owned_view()));
    }

    fn trade(&mut self, trade: &Trade) {
        self.trades.push((self.at, *trade));
    }

    fn level(&mut self, change: &LevelChange) {
        self.levels.push(*change);
    }

    fn withdrawal(&mut self, withdrawal: &WithdrawalView) {
        self.withdrawals.push(*withdrawal);
    }

    fn asset(&mut self, asset: AssetId) {
        self.assets.push(asset);
    }

    fn market(&mut self, market: MarketId) {
        self.markets.push(market);
    }

    fn account(&mut self, account: AccountId) {
        self.accounts.push(account);
    }
}
