//! Accounts, deposits, transfers, withdrawals.

use engine::*;
use units::*;

use super::{Naive, Purse, Withdrawal};

impl Naive {
    pub(crate) fn purse(&self, account: AccountId, asset: AssetId) -> Purse {
        self.purses.get(&(account, asset)).copied().unwrap_or_default()
    }

    pub(crate) fn purse_mut(&mut self, account: AccountId, asset: AssetId) -> &mut Purse {
        self.purses.entry((account, asset)).or_default()
    }

    /// Sets `amount` aside.
    pub(crate) fn hold(&mut self, account: AccountId, asset: AssetId, amount: u128) {
        let purse = self.purse_mut(account, asset);
        purse.available -= amount;
        purse.held += amount;
    }

    /// Frees `amount`.
    pub(crate) fn free(&mut self, account: AccountId, asset: AssetId, amount: u128) {
        let purse = self.purse_mut(account, asset);
        purse.held -= amount;
        purse.available += amount;
    }

    pub(crate) fn act_on_money(&mut self, id: CommandId, action: &Action) -> Result<Event, Reject> {
        match *action {
            Action::OpenAccount { account } => self.open_account(account)?,
            Action::SetAccountFlags { account, flags } => self.set_flags(account, flags)?,
            Action::Deposit { account, asset, amount, reference, sandbox } => {
                self.deposit(account, asset, amount, reference, sandbox)?;
            }
            Action::Transfer { from, to, asset, amount } => {
                self.transfer(from, to, asset, amount)?;
            }
            Action::RequestWithdrawal { account, asset, amount, destination: _ } => {
                self.request_withdrawal(id, account, asset, amount)?;
            }
            Action::ApproveWithdrawal { withdrawal } => {
                self.advance(withdrawal, &[WithdrawalState::Requested])?.state =
                    WithdrawalState::Approved;
            }
            Action::SendWithdrawal { withdrawal } => {
                self.advance(withdrawal, &[WithdrawalState::Approved])?.state =
                    WithdrawalState::Sending;
            }
            Action::SettleWithdrawal { withdrawal } => {
                let done = self.advance(withdrawal, &[WithdrawalState::Sending])?.clone();
                self.withdrawals.remove(&withdrawal);
                self.purse_mut(done.account, done.asset).held -= done.amount;
                *self.outside.entry(done.asset).or_default() += done.amount as i128;
            }
            Action::FailWithdrawal { withdrawal } => {
                use WithdrawalState::{Approved, Requested, Sending};
                self.advance(withdrawal, &[Requested, Approved, Sending])?;
                self.give_back(withdrawal);
            }
            Action::CancelWithdrawal { account, withdrawal } => {
                let found = self.withdrawals.get(&withdrawal).ok_or(Reject::WithdrawalUnknown)?;
                if found.account != account {
                    return Err(Reject::WithdrawalUnknown);
                }
                self.advance(withdrawal, &[WithdrawalState::Requested, WithdrawalState::Approved])?;
                self.give_back(withdrawal);
            }
            _ => unreachable!("not about money: {action:?}"),
        }
        Ok(Event::Done)
    }

    fn open_account(&mut self, account: AccountId) -> Result<(), Reject> {
        if account < AccountId::FIRST_CUSTOMER {
            return Err(Reject::AccountReserved);
        }
        if self.accounts.get(&account).is_some_and(|found| found.flags.closed) {
            return Err(Reject::AccountClosed);
        }
        self.accounts.entry(account).or_default();
        Ok(())
    }

    fn set_flags(&mut self, account: AccountId, flags: AccountFlags) -> Result<(), Reject> {
        self.live_account(account)?;
        if flags.closed {
            let has_money = self
                .purses
                .iter()
                .any(|((owner, _), purse)| *owner == account && purse.available + purse.held > 0);
            let has_orders = self.orders.iter().any(|order| order.new.account == account);
            if has_money || has_orders {
                return Err(Reject::AccountNotEmpty);
            }
        }
        self.accounts.get_mut(&account).expect("it is live").flags = flags;
        Ok(())
    }

    fn amount(&self, asset: AssetId, amount: Amount) -> Result<u128, Reject> {
        if amount.is_zero() || amount > Amount::COMMAND_MAX {
            return Err(Reject::AmountInvalid);
        }
        let asset = self.asset(asset)?;
        let step = 10_u128.pow(u32::from(asset.scale - asset.transfer_scale));
        if amount.get().is_multiple_of(step) {
            Ok(amount.get())
        } else {
            Err(Reject::AmountPrecision)
        }
    }

    fn deposit(
        &mut self,
        account: AccountId,
        asset: AssetId,
        amount: Amount,
        reference: ReferenceHash,
        sandbox: bool,
    ) -> Result<(), Reject> {
        self.asset(asset)?;
        self.live_account(account)?;
        let amount = self.amount(asset, amount)?;
        if sandbox && !self.settings.expect("the journal is open").sandbox {
            return Err(Reject::NotSandbox);
        }
        if !self.deposit_references.insert(reference) {
            return Err(Reject::DepositKnown);
        }
        self.purse_mut(account, asset).available += amount;
        *self.outside.entry(asset).or_default() -= amount as i128;
        Ok(())
    }

    fn transfer(
        &mut self,
        from: AccountId,
        to: AccountId,
        asset: AssetId,
        amount: Amount,
    ) -> Result<(), Reject> {
        self.asset(asset)?;
        if from == to {
            return Err(Reject::SelfTransfer);
        }
        self.free_account(from)?;
        self.free_account(to)?;
        let amount = self.amount(asset, amount)?;
        if amount > self.purse(from, asset).available {
            return Err(Reject::InsufficientFunds);
        }
        self.purse_mut(from, asset).available -= amount;
        self.purse_mut(to, asset).available += amount;
        Ok(())
    }

    fn request_withdrawal(
        &mut self,
        id: CommandId,
        account: AccountId,
        asset: AssetId,
        amount: Amount,
    ) -> Result<(), Reject> {
        self.asset(asset)?;
        let flags = self.free_account(account)?.flags;
        if flags.withdrawals_frozen {
            return Err(Reject::WithdrawalFrozen);
        }
        let amount = self.amount(asset, amount)?;
        if amount > self.purse(account, asset).available {
            return Err(Reject::InsufficientFunds);
        }
        self.hold(account, asset, amount);
        let state = WithdrawalState::Requested;
        self.withdrawals.insert(id, Withdrawal { account, asset, amount, state });
        Ok(())
    }

    fn advance(
        &mut self,
        withdrawal: CommandId,
        from: &[WithdrawalState],
    ) -> Result<&mut Withdrawal, Reject> {
        let found = self.withdrawals.get_mut(&withdrawal).ok_or(Reject::WithdrawalUnknown)?;
        if from.contains(&found.state) { Ok(found) } else { Err(Reject::WithdrawalState) }
    }

    fn give_back(&mut self, withdrawal: CommandId) {
        let done = self.withdrawals.remove(&withdrawal).expect("it is open");
        self.free(done.account, done.asset, done.amount);
    }
}
