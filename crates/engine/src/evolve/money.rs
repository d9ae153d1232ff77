//! Accounts, deposits, transfers, withdrawals.

use ledger::AccountIndex;
use units::{AccountId, Amount, AssetId, CommandId};

use super::Evolver;
use crate::command::Action;
use crate::observe::{
    LedgerEntry, Observer, Posting, TransferKind, WithdrawalState, WithdrawalView,
};
use crate::state::Withdrawal;

impl<O: Observer> Evolver<'_, O> {
    /// Applies an action whose effect the command itself says in full.
    pub(super) fn move_money(&mut self, action: &Action) {
        match action {
            Action::OpenAccount { account } => {
                self.state.open_account(*account);
                self.observer.account(*account);
            }
            Action::SetAccountFlags { account, flags } => {
                let index = self.account(*account);
                self.state.info_mut(index).flags = *flags;
                self.observer.account(*account);
            }
            Action::Deposit { account, asset, amount, reference, .. } => {
                let index = self.account(*account);
                self.state.deposit_references.insert(*reference);
                self.state.ledger.deposit(*asset, index, *amount);
                self.tell_entry(TransferKind::Deposit, AccountId::OUTSIDE, index, *asset, *amount);
                self.tell_balance(index, *asset);
            }
            Action::Transfer { from, to, asset, amount } => {
                let (payer, payee) = (self.account(*from), self.account(*to));
                self.state.ledger.transfer(*asset, payer, payee, *amount);
                self.tell_entry(TransferKind::Transfer, *from, payee, *asset, *amount);
                self.tell_balance(payer, *asset);
                self.tell_balance(payee, *asset);
            }
            Action::RequestWithdrawal { account, asset, amount, .. } => {
                let account = self.account(*account);
                let held = self.state.ledger.place_hold(account, *asset, *amount);
                held.expect("an accepted withdrawal is available");
                let state = WithdrawalState::Requested;
                let withdrawal = Withdrawal { account, asset: *asset, amount: *amount, state };
                self.state.withdrawals.insert(self.reference, withdrawal);
                self.tell_withdrawal(self.reference, withdrawal);
                self.tell_balance(account, *asset);
            }
            Action::ApproveWithdrawal { withdrawal } => {
                self.step_withdrawal(*withdrawal, WithdrawalState::Approved);
            }
            Action::SendWithdrawal { withdrawal } => {
                self.step_withdrawal(*withdrawal, WithdrawalState::Sending);
            }
            Action::SettleWithdrawal { withdrawal } => {
                self.step_withdrawal(*withdrawal, WithdrawalState::Settled);
            }
            Action::FailWithdrawal { withdrawal } => {
                self.step_withdrawal(*withdrawal, WithdrawalState::Failed);
            }
            Action::CancelWithdrawal { withdrawal, .. } => {
                self.step_withdrawal(*withdrawal, WithdrawalState::Cancelled);
            }
            _ => panic!("only an action that the command says in full is simply done"),
        }
    }

    fn step_withdrawal(&mut self, id: CommandId, state: WithdrawalState) {
        let found = self.state.withdrawals.get_mut(&id);
        let found = found.expect("a step names a withdrawal that is not closed");
        found.state = state;
        let withdrawal = *found;
        let Withdrawal { account, asset, amount, .. } = withdrawal;
        self.tell_withdrawal(id, withdrawal);
        match state {
            WithdrawalState::Requested | WithdrawalState::Approved | WithdrawalState::Sending => {
                return;
            }
            WithdrawalState::Settled => {
                self.state.ledger.withdraw(asset, account, amount);
                let out = amount.signed().checked_neg().expect("an amount has a negative");
                let from = self.state.ledger.id(account);
                self.tell_postings(
                    TransferKind::Withdrawal,
                    id,
                    &[
                        Posting { account: from, asset, amount: out },
                        Posting { account: AccountId::OUTSIDE, asset, amount: amount.signed() },
                    ],
                );
            }
            WithdrawalState::Failed | WithdrawalState::Cancelled => {
                self.state.ledger.release_hold(account, asset, amount);
            }
        }
        self.state.withdrawals.remove(&id);
        self.tell_balance(account, asset);
    }

    fn tell_withdrawal(&mut self, id: CommandId, withdrawal: Withdrawal) {
        let account_sequence = self.state.ledger.count_changes(withdrawal.account, 1);
        self.observer.withdrawal(&WithdrawalView {
            id,
            account: self.state.ledger.id(withdrawal.account),
            asset: withdrawal.asset,
            amount: withdrawal.amount,
            state: withdrawal.state,
            account_sequence,
        });
    }

    fn tell_entry(
        &mut self,
        kind: TransferKind,
        from: AccountId,
        to: AccountIndex,
        asset: AssetId,
        amount: Amount,
    ) {
        let out = amount.signed().checked_neg().expect("an amount has a negative");
        let to = self.state.ledger.id(to);
        let postings = [
            Posting { account: from, asset, amount: out },
            Posting { account: to, asset, amount: amount.signed() },
        ];
        self.tell_postings(kind, self.reference, &postings);
    }

    fn tell_postings(&mut self, kind: TransferKind, reference: CommandId, postings: &[Posting]) {
        let time = self.state.time;
        self.observer.entry(&LedgerEntry { kind, reference, trade: None, time, postings });
    }

    fn account(&self, account: AccountId) -> AccountIndex {
        self.state.ledger.find(account).expect("an event names an account that is open")
    }
}
