//! Holds: value set aside within one balance.

use units::{Amount, Balance};

/// Why a hold is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRejected {
    /// More than is available.
    InsufficientAvailable {
        /// What is available.
        available: Amount,
        /// What was asked for.
        required: Amount,
    },
}

/// Moves `amount` from available to held, so that an order can be accepted.
///
/// Called before the order reaches the book: an order that rests is always paid for, which is why matching has no
/// insufficient-funds path. [`release_hold`] is the inverse.
///
/// # Errors
///
/// [`HoldRejected::InsufficientAvailable`] when `amount` exceeds what is available.
#[inline]
pub fn place_hold(balance: Balance, amount: Amount) -> Result<Balance, HoldRejected> {
    let Some(available) = balance.available.checked_sub(amount) else {
        return Err(HoldRejected::InsufficientAvailable {
            available: balance.available,
            required: amount,
        });
    };
    // Nothing below can be refused.
    let held = balance.held.checked_add(amount).expect("held is bounded by the total, which fits");
    let next = Balance { available, held };
    assert_eq!(next.total(), balance.total(), "a hold moves value within one account");
    Ok(next)
}

/// Moves `amount` from held back to available.
///
/// # Panics
///
/// When `amount` exceeds what is held.
#[must_use]
#[inline]
pub fn release_hold(balance: Balance, amount: Amount) -> Balance {
    let held = balance.held.checked_sub(amount).expect("a release stays within what is held");
    let available = balance
        .available
        .checked_add(amount)
        .expect("available is bounded by the total, which fits");
    let next = Balance { available, held };
    assert_eq!(next.total(), balance.total(), "a release moves value within one account");
    next
}
