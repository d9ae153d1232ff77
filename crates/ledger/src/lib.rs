//! Accounts, holds and balanced transfers.
//!
//! Invariants: every asset sums to zero over all accounts, the outside world included; `available` and `held` are
//! never negative; a transfer, or a leg of a trade, takes from one account exactly what it gives to others, so that
//! there is no way to write an unbalanced one.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::indexing_slicing
    )
)]

mod account;
mod balance;

use hashbrown::HashTable;
use units::{AccountId, Amount, AssetId, Balance, SignedAmount};

use crate::account::Account;
pub use crate::balance::{HoldRejected, place_hold, release_hold};

/// An account's position in the ledger: dense, given at opening, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountIndex(u32);

impl AccountIndex {
    /// Returns the plain position.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Wraps a position that this ledger gave out.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }
}

/// What one side of a trade gives to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Of what.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// What of it is the fee.
    pub fee: Amount,
}

impl Leg {
    /// Returns what the other side gets.
    ///
    /// # Panics
    ///
    /// When the fee is more than the amount.
    #[must_use]
    #[inline]
    pub fn net(&self) -> Amount {
        self.amount.checked_sub(self.fee).expect("a fee is part of what is received")
    }
}

/// All accounts of the exchange.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    /// Positions by account id, for the ids that are given one after the other; `NONE`: no such account.
    dense: Vec<u32>,
    /// Positions of the accounts with greater ids.
    sparse: HashTable<u32>,
    /// The outside world's balance per asset: zero or negative.
    outside: Vec<SignedAmount>,
    salt: u64,
}

impl Account {
    /// Gives one leg of a trade out of what is held, and gets the other.
    #[inline(always)]
    fn exchange(&mut self, gives: Leg, gets: Leg) {
        if !gives.amount.is_zero() {
            let held = &mut self.balance_or_new(gives.asset).held;
            *held = held.checked_sub(gives.amount).expect("an order holds what it gives");
        }
        self.credit(gets.asset, gets.net());
    }

    #[inline]
    fn credit(&mut self, asset: AssetId, amount: Amount) {
        if !amount.is_zero() {
            let available = &mut self.balance_or_new(asset).available;
            let sum = available.checked_add(amount);
            *available = sum.expect("a balance stays within the supply");
        }
    }
}

/// No account.
const NONE: u32 = u32::MAX;

/// Account ids below this are looked up by position: 16 MiB at the most.
const DENSE_MAX: usize = 1 << 22;

/// The most that may have come in of one asset, in ledger units: `10^36`, far below 2^127.
pub const SUPPLY_MAX: Amount = Amount::new(1_000_000_000_000_000_000_000_000_000_000_000_000);

impl Ledger {
    /// Returns an empty ledger, whose table of accounts is seeded with `salt`.
    #[must_use]
    #[inline]
    pub fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Opens an account and returns its position; the one it has if it is open already.
    #[inline]
    pub fn open(&mut self, id: AccountId) -> AccountIndex {
        if let Some(index) = self.find(id) {
            return index;
        }
        let index = u32::try_from(self.accounts.len()).expect("accounts fit 32 bits");
        self.accounts.push(Account::new(id));
        match dense_place(id) {
            Some(place) => {
                if place >= self.dense.len() {
                    self.dense.resize(place.saturating_add(1), NONE);
                }
                *self.dense.get_mut(place).expect("the list was just made long enough") = index;
            }
            None => self.insert_sparse(id, index),
        }
        AccountIndex(index)
    }

    #[inline]
    fn insert_sparse(&mut self, id: AccountId, index: u32) {
        let Self { accounts, sparse, salt, .. } = self;
        sparse.insert_unique(hash(id, *salt), index, |&other| {
            hash(accounts.get(to_usize(other)).expect("the table names accounts").id, *salt)
        });
    }

    /// Finds an account.
    #[must_use]
    #[inline]
    pub fn find(&self, id: AccountId) -> Option<AccountIndex> {
        let index = match dense_place(id) {
            Some(place) => self.dense.get(place).copied().filter(|&index| index != NONE),
            None => {
                let same =
                    |&index: &u32| self.accounts.get(to_usize(index)).is_some_and(|a| a.id == id);
                self.sparse.find(hash(id, self.salt), same).copied()
            }
        };
        index.map(AccountIndex)
    }

    /// Returns how many accounts there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Tells whether there is no account.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Returns an account's id.
    #[must_use]
    #[inline]
    pub fn id(&self, account: AccountIndex) -> AccountId {
        self.account(account).id
    }

    /// Returns an account's counter of changes.
    #[must_use]
    #[inline]
    pub fn sequence(&self, account: AccountIndex) -> u64 {
        self.account(account).sequence
    }

    /// Counts changes of an account and returns the counter after the first of them.
    #[inline]
    pub fn count_changes(&mut self, account: AccountIndex, changes: u64) -> u64 {
        let account = self.account_mut(account);
        let first = account.sequence.saturating_add(1);
        account.sequence = account.sequence.checked_add(changes).expect("changes fit 64 bits");
        first
    }

    /// Sets an account's counter, as a snapshot has it.
    #[inline]
    pub fn restore_sequence(&mut self, account: AccountIndex, sequence: u64) {
        self.account_mut(account).sequence = sequence;
    }

    /// Sets a balance, as a snapshot has it. What an account gets so, nobody pays:
    /// [`Ledger::imbalance`] finds a snapshot that does not balance.
    #[inline]
    pub fn restore_balance(&mut self, account: AccountIndex, asset: AssetId, balance: Balance) {
        *self.account_mut(account).balance_or_new(asset) = balance;
    }

    /// Sets the outside world's balance, as a snapshot has it.
    #[inline]
    pub fn restore_outside(&mut self, asset: AssetId, balance: SignedAmount) {
        *self.outside_mut(asset) = balance;
    }

    /// Returns an account's balance of an asset.
    #[must_use]
    #[inline]
    pub fn balance(&self, account: AccountIndex, asset: AssetId) -> Balance {
        self.account(account).balance(asset).copied().unwrap_or_default()
    }

    /// Reads an account and its balances before they are needed, and returns something of both: nothing follows from that.
    #[must_use]
    #[inline]
    pub fn touch(&self, account: AccountIndex) -> u64 {
        self.account(account).touch()
    }

    /// Returns an account's balances in the order of asset ids.
    #[inline]
    pub fn balances(&self, account: AccountIndex) -> impl Iterator<Item = (AssetId, Balance)> + '_ {
        self.account(account).balances()
    }

    /// Returns the outside world's balance of an asset: zero or negative.
    #[must_use]
    #[inline]
    pub fn outside(&self, asset: AssetId) -> SignedAmount {
        self.outside.get(usize::from(asset.get())).copied().unwrap_or(0)
    }

    /// Tells whether `amount` more may come in of an asset.
    #[must_use]
    #[inline]
    pub fn has_room(&self, asset: AssetId, amount: Amount) -> bool {
        let inside = Amount::new(self.outside(asset).unsigned_abs());
        inside.checked_add(amount).is_some_and(|total| total <= SUPPLY_MAX)
    }

    /// Moves `amount` of an account from available to held.
    ///
    /// # Errors
    ///
    /// [`HoldRejected::InsufficientAvailable`] when it exceeds what is available; nothing changes then.
    #[inline]
    pub fn place_hold(
        &mut self,
        account: AccountIndex,
        asset: AssetId,
        amount: Amount,
    ) -> Result<(), HoldRejected> {
        if amount.is_zero() {
            return Ok(());
        }
        let Some(balance) = self.account_mut(account).balance_mut(asset) else {
            return place_hold(Balance::default(), amount).map(drop);
        };
        *balance = place_hold(*balance, amount)?;
        Ok(())
    }

    /// Moves `amount` of an account from held back to available.
    ///
    /// # Panics
    ///
    /// When it exceeds what is held.
    #[inline]
    pub fn release_hold(&mut self, account: AccountIndex, asset: AssetId, amount: Amount) {
        if amount.is_zero() {
            return;
        }
        let balance = self.account_mut(account).balance_mut(asset);
        let balance = balance.expect("what is held is of a balance");
        *balance = release_hold(*balance, amount);
    }

    /// Moves `amount` of what is available from one account to another; nothing happens where it is zero.
    ///
    /// # Panics
    ///
    /// When the payer has not got it: who calls has made sure of that by a check.
    #[inline]
    pub fn transfer(
        &mut self,
        asset: AssetId,
        payer: AccountIndex,
        payee: AccountIndex,
        amount: Amount,
    ) {
        if amount.is_zero() {
            return;
        }
        let available = &mut self.account_mut(payer).balance_or_new(asset).available;
        let left = available.checked_sub(amount);
        *available = left.expect("the payer has what the transfer takes");
        self.account_mut(payee).credit(asset, amount);
    }

    /// Settles a trade: each side's leg goes from what it holds to what is available to the other and, the fee of it, to
    /// `fees`.
    ///
    /// # Panics
    ///
    /// When a side does not hold its leg: who calls has made sure of that when its order was accepted.
    #[inline(always)]
    pub fn settle(
        &mut self,
        maker: (AccountIndex, Leg),
        taker: (AccountIndex, Leg),
        fees: AccountIndex,
    ) {
        let ((maker, given), (taker, paid)) = (maker, taker);
        self.account_mut(maker).exchange(given, paid);
        self.account_mut(taker).exchange(paid, given);
        let fees = self.account_mut(fees);
        fees.credit(given.asset, given.fee);
        fees.credit(paid.asset, paid.fee);
    }

    /// Brings `amount` in from the outside world.
    ///
    /// # Panics
    ///
    /// When there is no room for it ([`Ledger::has_room`]).
    #[inline]
    pub fn deposit(&mut self, asset: AssetId, account: AccountIndex, amount: Amount) {
        assert!(self.has_room(asset, amount), "a deposit stays within the supply");
        let outside = self.outside_mut(asset);
        *outside = outside.checked_sub(amount.signed()).expect("supplies fit 127 bits");
        self.account_mut(account).credit(asset, amount);
    }

    /// Takes `amount` of what is held out to the outside world.
    ///
    /// # Panics
    ///
    /// When it exceeds what is held.
    #[inline]
    pub fn withdraw(&mut self, asset: AssetId, account: AccountIndex, amount: Amount) {
        let held = &mut self.account_mut(account).balance_or_new(asset).held;
        *held = held.checked_sub(amount).expect("a withdrawal spends its hold");
        let outside = self.outside_mut(asset);
        *outside = outside.checked_add(amount.signed()).expect("supplies fit 127 bits");
        assert!(*outside <= 0, "no more leaves than has come in");
    }

    /// Returns the sum over all accounts of an asset, the outside world included. Anything but zero is a defect.
    #[must_use]
    #[inline]
    pub fn imbalance(&self, asset: AssetId) -> SignedAmount {
        let all = (0..self.accounts.len()).map(|index| {
            let index = AccountIndex(u32::try_from(index).expect("accounts fit 32 bits"));
            self.balance(index, asset).total().signed()
        });
        all.fold(self.outside(asset), |sum, total| {
            sum.checked_add(total).expect("supplies fit 127 bits")
        })
    }

    /// Returns [`Ledger::imbalance`] of the first `assets` assets, in one pass over the accounts. A sum that does not fit is
    /// the greatest that does: it is as much of a defect.
    #[must_use]
    pub fn imbalances(&self, assets: u16) -> Vec<SignedAmount> {
        let mut sums: Vec<_> = (0..assets).map(|id| self.outside(AssetId::new(id))).collect();
        for (asset, balance) in self.accounts.iter().flat_map(Account::balances) {
            if let Some(sum) = sums.get_mut(usize::from(asset.get())) {
                *sum = sum.saturating_add(balance.total().signed());
            }
        }
        sums
    }

    #[inline]
    fn account(&self, account: AccountIndex) -> &Account {
        self.accounts.get(to_usize(account.0)).expect("an index is of this ledger")
    }

    #[inline]
    fn account_mut(&mut self, account: AccountIndex) -> &mut Account {
        self.accounts.get_mut(to_usize(account.0)).expect("an index is of this ledger")
    }

    #[inline]
    fn outside_mut(&mut self, asset: AssetId) -> &mut SignedAmount {
        let at = usize::from(asset.get());
        if at >= self.outside.len() {
            self.outside.resize(at.saturating_add(1), 0);
        }
        self.outside.get_mut(at).expect("the list was just made long enough")
    }
}

#[inline]
fn dense_place(id: AccountId) -> Option<usize> {
    usize::try_from(id.get()).ok().filter(|&place| place < DENSE_MAX)
}

#[inline]
fn hash(id: AccountId, salt: u64) -> u64 {
    units::mix(id.get(), salt)
}

#[inline]
fn to_usize(index: u32) -> usize {
    usize::try_from(index).expect("this runs on machines of 32 bits or more")
}

#[cfg(test)]
mod tests;
