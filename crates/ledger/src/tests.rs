//! Value is conserved whatever is done.

use proptest::prelude::*;

use super::*;

const USD: AssetId = AssetId::new(0);

fn amount(units: u128) -> Amount {
    Amount::new(units)
}

#[test]
fn a_hold_beyond_what_is_available_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new(1);
    let account = ledger.open(AccountId::new(1000));
    ledger.deposit(USD, account, amount(10));
    let refused = ledger.place_hold(account, USD, amount(11));
    assert_eq!(
        refused,
        Err(HoldRejected::InsufficientAvailable { available: amount(10), required: amount(11) })
    );
    assert_eq!(ledger.balance(account, USD), Balance { available: amount(10), held: amount(0) });
}

#[test]
fn an_account_is_opened_once() {
    let mut ledger = Ledger::new(7);
    let first = ledger.open(AccountId::new(1000));
    assert_eq!(ledger.open(AccountId::new(1000)), first);
    assert_eq!(ledger.find(AccountId::new(1001)), None);
    assert_eq!(ledger.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Deposit(usize, u128),
    Hold(usize, u128),
    Release(usize, u128),
    Transfer(usize, usize, u128),
    Settle(usize, usize, u128, u128),
    Withdraw(usize, u128),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..4_usize;
    let much = 0..100_u128;
    prop_oneof![
        (who.clone(), much.clone()).prop_map(|(a, m)| Step::Deposit(a, m)),
        (who.clone(), much.clone()).prop_map(|(a, m)| Step::Hold(a, m)),
        (who.clone(), much.clone()).prop_map(|(a, m)| Step::Release(a, m)),
        (who.clone(), who.clone(), much.clone()).prop_map(|(a, b, m)| Step::Transfer(a, b, m)),
        (who.clone(), who.clone(), much.clone(), much.clone())
            .prop_map(|(a, b, m, n)| Step::Settle(a, b, m, n)),
        (who, much).prop_map(|(a, m)| Step::Withdraw(a, m)),
    ]
}

proptest! {
    /// Whatever the order of events, value enters only by deposit, leaves only by withdrawal, and an asset
    /// always sums to zero.
    #[test]
    fn prop_value_is_conserved(steps in prop::collection::vec(step(), 1..64)) {
        let mut ledger = Ledger::new(3);
        let accounts: Vec<_> = (0..4).map(|n| ledger.open(AccountId::new(1000 + n))).collect();
        let mut inside = 0_u128;
        for step in steps {
            match step {
                Step::Deposit(a, m) => {
                    ledger.deposit(USD, accounts[a], amount(m));
                    inside += m;
                }
                Step::Hold(a, m) => {
                    let before = ledger.balance(accounts[a], USD);
                    let placed = ledger.place_hold(accounts[a], USD, amount(m));
                    prop_assert_eq!(placed.is_ok(), before.available >= amount(m));
                }
                Step::Release(a, m) => {
                    let held = ledger.balance(accounts[a], USD).held.get();
                    ledger.release_hold(accounts[a], USD, amount(m.min(held)));
                }
                Step::Transfer(a, b, m) => {
                    let available = ledger.balance(accounts[a], USD).available.get();
                    ledger.transfer(USD, accounts[a], accounts[b], amount(m.min(available)));
                }
                Step::Settle(a, b, m, n) => {
                    let held = |who: usize| ledger.balance(accounts[who], USD).held.get();
                    let given = m.min(held(a));
                    let paid = n.min(if a == b { held(b) - given } else { held(b) });
                    let leg = |units: u128, fee: u128| {
                        Leg { asset: USD, amount: amount(units), fee: amount(fee.min(units)) }
                    };
                    let (maker, taker) = (accounts[a], accounts[b]);
                    let (given, paid) = (leg(given, n), leg(paid, m));
                    ledger.settle((maker, given), (taker, paid), accounts[(b + 1) % 4]);
                }
                Step::Withdraw(a, m) => {
                    let out = m.min(ledger.balance(accounts[a], USD).held.get());
                    ledger.withdraw(USD, accounts[a], amount(out));
                    inside -= out;
                }
            }
            prop_assert_eq!(ledger.imbalance(USD), 0);
            prop_assert_eq!(ledger.imbalances(1), [ledger.imbalance(USD)]);
            prop_assert_eq!(ledger.outside(USD).unsigned_abs(), inside);
        }
    }
}
