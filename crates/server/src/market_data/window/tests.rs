use proptest::prelude::*;

use super::*;

/// A trade of the naive list: microseconds, price, lots.
type Plain = (u64, u64, u64);

const LENGTH: u64 = 20 * SECOND;

fn tally(id: u64, (_, price, lots): Plain) -> Tally {
    let price = PriceTicks::new(price).expect("prices are above zero");
    Tally {
        first_trade: id,
        last_trade: id,
        open: price,
        high: price,
        low: price,
        close: price,
        lots: u128::from(lots),
        notional: u128::from(lots) * u128::from(price.get()),
        trades: 1,
    }
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Option<Tally> {
    let mut tallies = tallies.copied();
    let first = tallies.next()?;
    Some(tallies.fold(first, |mut sum, tally| {
        sum.append(&tally);
        sum
    }))
}

/// All trades of a stretch of ids, by moment, as the database says them.
fn stored(trades: &[Plain], wanted: Wanted) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    for id in wanted.first_trade..=wanted.last_trade {
        let trade = trades[usize::try_from(id - 1).expect("ids are small")];
        match slots.last_mut() {
            Some((time, slot)) if time.micros() == trade.0 => slot.append(&tally(id, trade)),
            _ => slots.push((Time::from_micros(trade.0), tally(id, trade))),
        }
    }
    slots
}

proptest! {
    /// Whatever trades come when, the window says what a list of all trades says.
    #[test]
    fn prop_the_window_is_exact_by_trade(
        steps in prop::collection::vec((0_u64..3_000_000, 1_u64..50, 1_u64..1000), 1..200),
        quiet in 0_u64..30 * SECOND,
    ) {
        let mut window = Window::new(LENGTH);
        let mut trades: Vec<Plain> = Vec::new();
        let mut now = 1_000 * SECOND;
        let check = |window: &mut Window, trades: &[Plain], now: u64| {
            let now_time = Time::from_micros(now);
            while let Some(wanted) = window.wants(now_time) {
                window.refine(&stored(trades, wanted)).expect("what is stored is what was counted");
            }
            window.advance(now_time);
            let inside: Vec<Tally> = (1_u64..)
                .zip(trades)
                .filter(|(_, trade)| trade.0 > now - LENGTH)
                .map(|(id, trade)| tally(id, *trade))
                .collect();
            (window.statistics(), sum(inside.iter()))
        };
        for (wait, price, lots) in steps {
            // A wait of zero now and then: several trades of one moment.
            now += wait.saturating_sub(1_000_000);
            trades.push((now, price, lots));
            let id = u64::try_from(trades.len()).expect("few trades");
            window.push(now / SECOND, &tally(id, (now, price, lots)));
            let (said, naive) = check(&mut window, &trades, now);
            prop_assert_eq!(said, naive);
        }
        let (said, naive) = check(&mut window, &trades, now + quiet);
        prop_assert_eq!(said, naive);
    }
}

#[test]
fn trades_that_were_changed_in_the_store_are_found() {
    let mut window = Window::new(LENGTH);
    let trades = [(SECOND, 7, 1), (SECOND + 5, 8, 2)];
    for (id, trade) in (1..).zip(trades) {
        window.push(trade.0 / SECOND, &tally(id, trade));
    }
    let wanted = window.wants(Time::from_micros(LENGTH)).expect("the first second is near");
    let changed = stored(&[(SECOND, 7, 1), (SECOND + 5, 9, 2)], wanted);
    assert_eq!(window.refine(&changed), Err(Mismatch { second: 1 }));
}

#[test]
fn a_second_that_was_not_read_back_leaves_when_it_is_over() {
    let mut window = Window::new(LENGTH);
    window.push(1, &tally(1, (SECOND, 7, 1)));
    window.advance(Time::from_micros(LENGTH + 2 * SECOND - 2));
    assert!(window.statistics().is_some());
    window.advance(Time::from_micros(LENGTH + 2 * SECOND - 1));
    assert_eq!(window.statistics(), None);
}

#[test]
fn what_is_kept_does_not_grow_with_the_rate() {
    let mut window = Window::new(LENGTH);
    for id in 1..=100_000 {
        let micros = 1_000 * SECOND + id * 200;
        window.push(micros / SECOND, &tally(id, (micros, 1 + id % 97, 1)));
    }
    assert!(window.seconds.len() <= 21, "{}", window.seconds.len());
    assert!(window.highs.len() <= window.seconds.len());
}
