//! Whatever the queue or the database brings is read or refused, never a panic; and what is read is written alike.
//!
//! Each target runs for a bounded time with the tests; `cargo bolero test` runs one for as long as wanted.

use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use units::Hash32;

use crate::strategies::{batch, command};
use crate::{Message, read, seal};

const TIME: Duration = Duration::from_secs(2);

/// Good ones of many kinds, to be damaged.
fn some<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let mut value = || strategy.new_tree(&mut runner).expect("it can be made").current();
    (0..count).map(|_| value()).collect()
}

/// Changes bytes, and cuts or lengthens.
fn damage(bytes: &mut Vec<u8>, changes: &[(u16, u8)], length: Option<u16>) {
    for (at, byte) in changes {
        let length = bytes.len().max(1);
        if let Some(place) = bytes.get_mut(usize::from(*at) % length) {
            *place = *byte;
        }
    }
    if let Some(length) = length {
        bytes.resize(usize::from(length) % 2_048, 0xa5);
    }
}

#[test]
fn fuzz_messages() {
    let whole: Vec<Vec<u8>> = some(command(), 256)
        .into_iter()
        .map(|command| Message { incarnation: 7, seen: units::Sequence::new(9), command }.encode())
        .collect();
    let check = |bytes: &[u8]| {
        if let Ok(message) = Message::decode(bytes) {
            assert_eq!(Message::decode(&message.encode()), Ok(message), "{bytes:02x?}");
        }
    };
    type Damage = (u8, Vec<(u16, u8)>, Option<u16>, Vec<u8>);
    bolero::check!().with_test_time(TIME).with_type::<Damage>().for_each(
        |(which, changes, length, any)| {
            let mut bytes = whole[usize::from(*which)].clone();
            damage(&mut bytes, changes, *length);
            check(&bytes);
            check(any);
        },
    );
}

#[test]
fn fuzz_rows() {
    let whole: Vec<_> =
        some(batch(20), 64).iter().map(|batch| seal(batch, Hash32::default())).collect();
    type Damage = (u8, Vec<(u16, u8)>, Option<u16>);
    bolero::check!().with_test_time(TIME).with_type::<Damage>().for_each(
        |(which, changes, length)| {
            let mut row = whole[usize::from(*which) % whole.len()].clone();
            damage(&mut row.payload, changes, *length);
            let intact = read(&row).is_ok();
            // As a writer with a defect, or somebody who knows the hash, would leave it.
            row.hash = crate::row::row_hash(&row);
            let read = read(&row);
            assert!(!intact || read.is_ok());
        },
    );
}
