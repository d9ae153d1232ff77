//! The book against a plain sorted list, and its rules one by one.

use super::*;

fn price(ticks: u64) -> PriceTicks {
    PriceTicks::new(ticks).expect("tests use prices")
}

fn lots(lots: u64) -> QuantityLots {
    QuantityLots::new(lots)
}

fn keys(book: &Book, side: Side) -> Vec<(u64, Vec<Key>)> {
    book.queues(side)
        .map(|(price, queue)| (price.get(), queue.map(|order| order.key).collect()))
        .collect()
}

#[test]
fn best_price_comes_first_and_then_the_oldest() {
    let mut book = Book::new();
    for (key, ticks) in [(0, 10), (1, 12), (2, 11), (3, 12)] {
        book.insert(key, Side::Buy, price(ticks), lots(1), 0);
        book.insert(key + 10, Side::Sell, price(ticks + 10), lots(1), 0);
    }
    assert_eq!(keys(&book, Side::Buy), [(12, vec![1, 3]), (11, vec![2]), (10, vec![0])]);
    assert_eq!(keys(&book, Side::Sell), [(20, vec![10]), (21, vec![12]), (22, vec![11, 13])]);
    assert_eq!(book.head(Side::Buy).map(|order| order.key), Some(1));
}

#[test]
fn a_cancel_leaves_the_others_in_their_order_and_no_phantom_level() {
    let mut book = Book::new();
    for key in 0..3 {
        book.insert(key, Side::Sell, price(5), lots(2), 0);
    }
    let level = book.remove(1);
    assert_eq!((level.quantity, level.orders), (lots(4), 2));
    assert_eq!(keys(&book, Side::Sell), [(5, vec![0, 2])]);
    book.remove(0);
    assert_eq!(book.remove(2).quantity, lots(0));
    assert_eq!(book.best(Side::Sell), None);
    assert_eq!(book.levels(Side::Sell).count(), 0);
}

#[test]
fn a_refreshed_order_goes_to_the_back_and_a_reduced_one_stays() {
    let mut book = Book::new();
    book.insert(0, Side::Buy, price(5), lots(5), 0);
    book.insert(1, Side::Buy, price(5), lots(5), 0);
    assert_eq!(book.reduce(0, lots(3)).quantity, lots(7));
    assert_eq!(keys(&book, Side::Buy), [(5, vec![0, 1])]);
    assert_eq!(book.refresh(0, lots(4)).quantity, lots(9));
    assert_eq!(keys(&book, Side::Buy), [(5, vec![1, 0])]);
}

/// Random inserts, cancels, reductions and refreshes: after each the book equals a plain list that is searched
/// from end to end.
#[test]
fn the_book_agrees_with_a_plain_list() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut book = Book::new();
    let mut list: Vec<(Key, u64, u64)> = Vec::new(); // key, price, visible: in the order of arrival
    let mut next = 0;
    for _ in 0..20_000 {
        match random(10) {
            0..6 => {
                // Some prices share their place among the near ones.
                let ticks = random(5) + 1 + 256 * random(4);
                let visible = random(9) + 1;
                book.insert(next, Side::Sell, price(ticks), lots(visible), 0);
                list.push((next, ticks, visible));
                next += 1;
            }
            choice if !list.is_empty() => {
                let at = usize::try_from(random(list.len() as u64)).expect("small");
                let (key, ticks, visible) = list[at];
                match choice {
                    6..8 => {
                        list.remove(at);
                        book.remove(key);
                    }
                    8 if visible > 1 => {
                        list[at].2 -= 1;
                        book.reduce(key, lots(1));
                    }
                    _ => {
                        list.remove(at);
                        list.push((key, ticks, 7));
                        book.refresh(key, lots(7));
                    }
                }
            }
            _ => {}
        }
        let best = list.iter().map(|entry| entry.1).min();
        assert_eq!(book.best(Side::Sell).map(PriceTicks::get), best);
        let head = list.iter().find(|entry| Some(entry.1) == best).map(|entry| entry.0);
        assert_eq!(book.head(Side::Sell).map(|order| order.key), head);
    }
    let mut expected = list.clone();
    expected.sort_by_key(|entry| entry.1);
    let found: Vec<_> = book
        .queues(Side::Sell)
        .flat_map(|(price, queue)| {
            queue.map(move |order| (order.key, price.get(), order.visible.get()))
        })
        .collect();
    assert_eq!(found, expected);
}
