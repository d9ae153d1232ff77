//! Accounts, deposits, transfers, withdrawals.

use ledger::AccountIndex;
use units::{AccountId, Amount, AssetId, CommandId};

use crate::command::Action;
use crate::config::AssetConfig;
use crate::event::Event;
use crate::observe::WithdrawalState;
use crate::reject::Reject;
use crate::state::{AccountInfo, State, Withdrawal};

pub(super) fn decide(state: &State, action: &Action) -> Result<Event, Reject> {
    match action {
        Action::OpenAccount { account } => open(state, *account)?,
        Action::SetAccountFlags { account, flags } => {
            let owner = known_account(state, *account)?;
            if flags.closed && !is_empty(state, owner) {
                return Err(Reject::AccountNotEmpty);
            }
        }
        Action::Deposit { account, asset, amount, reference, sandbox } => {
            let config = known_asset(state, *asset)?;
            known_account(state, *account)?;
            check_amount(config, *amount)?;
            if *sandbox && !state.settings().is_some_and(|settings| settings.sandbox) {
                return Err(Reject::NotSandbox);
            }
            if state.deposit_references.contains(reference) {
                return Err(Reject::DepositKnown);
            }
            if !state.ledger.has_room(*asset, *amount) {
                return Err(Reject::AmountInvalid);
            }
        }
        Action::Transfer { from, to, asset, amount } => {
            let config = known_asset(state, *asset)?;
            if from == to {
                return Err(Reject::SelfTransfer);
            }
            let payer = active_account(state, *from)?;
            active_account(state, *to)?;
            check_amount(config, *amount)?;
            check_funds(state, payer, *asset, *amount)?;
        }
        Action::RequestWithdrawal { account, asset, amount, .. } => {
            let config = known_asset(state, *asset)?;
            let payer = active_account(state, *account)?;
            if payer.info.flags.withdrawals_frozen {
                return Err(Reject::WithdrawalFrozen);
            }
            check_amount(config, *amount)?;
            check_funds(state, payer, *asset, *amount)?;
        }
        action => withdrawal_step(state, action)?,
    }
    Ok(Event::Done)
}

/// A customer's account.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) index: AccountIndex,
    pub(super) info: &'a AccountInfo,
}

/// Finds a customer's account that may trade and pay.
#[inline]
pub(super) fn active_account(state: &State, id: AccountId) -> Result<Owner<'_>, Reject> {
    let owner = known_account(state, id)?;
    if owner.info.flags.locked { Err(Reject::AccountLocked) } else { Ok(owner) }
}

/// Finds a customer's account that is not closed.
#[inline(always)]
pub(super) fn known_account(state: &State, id: AccountId) -> Result<Owner<'_>, Reject> {
    if id < AccountId::FIRST_CUSTOMER {
        return Err(Reject::AccountReserved);
    }
    let index = state.ledger.find(id).ok_or(Reject::AccountUnknown)?;
    let info = state.info(index);
    if info.flags.closed { Err(Reject::AccountClosed) } else { Ok(Owner { index, info }) }
}

#[inline]
pub(super) fn check_funds(
    state: &State,
    payer: Owner<'_>,
    asset: AssetId,
    amount: Amount,
) -> Result<(), Reject> {
    let available = state.ledger.balance(payer.index, asset).available;
    if available < amount { Err(Reject::InsufficientFunds) } else { Ok(()) }
}

fn open(state: &State, account: AccountId) -> Result<(), Reject> {
    match known_account(state, account) {
        Err(Reject::AccountUnknown) | Ok(_) => Ok(()),
        Err(reject) => Err(reject),
    }
}

fn is_empty(state: &State, owner: Owner<'_>) -> bool {
    let no_orders = owner.info.own().next().is_none();
    let nothing = state.ledger.balances(owner.index).all(|(_, balance)| balance.total().is_zero());
    no_orders && nothing
}

fn known_asset(state: &State, asset: AssetId) -> Result<&AssetConfig, Reject> {
    state.assets().get(usize::from(asset.get())).ok_or(Reject::AssetUnknown)
}

fn check_amount(config: &AssetConfig, amount: Amount) -> Result<(), Reject> {
    if amount.is_zero() || amount > Amount::COMMAND_MAX {
        return Err(Reject::AmountInvalid);
    }
    let rest = amount.get().checked_rem(config.transfer_step().get());
    if rest == Some(0) { Ok(()) } else { Err(Reject::AmountPrecision) }
}

/// A withdrawal goes `requested` → `approved` → `sending` → `settled`; it can fail until it is settled, and
/// its owner can take it back until it is being sent.
fn withdrawal_step(state: &State, action: &Action) -> Result<(), Reject> {
    use WithdrawalState::{Approved, Requested, Sending};
    let found = |id: &CommandId| state.withdrawals.get(id).ok_or(Reject::WithdrawalUnknown);
    let (withdrawal, from): (&Withdrawal, &[WithdrawalState]) = match action {
        Action::ApproveWithdrawal { withdrawal } => (found(withdrawal)?, &[Requested]),
        Action::SendWithdrawal { withdrawal } => (found(withdrawal)?, &[Approved]),
        Action::SettleWithdrawal { withdrawal } => (found(withdrawal)?, &[Sending]),
        Action::FailWithdrawal { withdrawal } => {
            (found(withdrawal)?, &[Requested, Approved, Sending])
        }
        Action::CancelWithdrawal { account, withdrawal } => {
            let found = found(withdrawal)?;
            if state.ledger.id(found.account) != *account {
                return Err(Reject::WithdrawalUnknown);
            }
            (found, &[Requested, Approved])
        }
        _ => return Err(Reject::Forbidden),
    };
    if from.contains(&withdrawal.state) { Ok(()) } else { Err(Reject::WithdrawalState) }
}
