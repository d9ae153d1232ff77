//! What the formats promise: all comes back, nothing changed goes through, no bytes do harm, and the bytes stay as
//! they are.

use engine::{
    Action, Command, Ending, Event, Fill, NewOrder, OrderType, Origin, PlacedOrder, Record,
    SelfTradePrevention, Side, Step, TimeInForce,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use units::{
    AccountId, Amount, CommandId, Hash32, MarketId, OrderId, PriceTicks, QuantityLots, Sequence,
    Time, TradeId,
};

use crate::codec::{Code, Reader, Writer, get_command, put_command};
use crate::strategies::{action, batch, command, event, record, time};
use crate::*;

/// Writes a value and reads it back, taking every byte; a shorter piece must be refused.
fn comes_back<T: Code + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    let mut w = Writer::default();
    value.put(&mut w);
    let mut r = Reader::new(w.bytes());
    let read = T::get(&mut r);
    prop_assert_eq!(read.as_ref(), Ok(value));
    prop_assert!(r.is_empty());
    for length in 0..w.bytes().len() {
        prop_assert!(T::get(&mut Reader::new(&w.bytes()[..length])).is_err());
    }
    Ok(())
}

/// Reads a value from any bytes; what is read must be written again as the very bytes that were taken.
fn one_encoding<T: Code>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut r = Reader::new(bytes);
    if let Ok(value) = T::get(&mut r) {
        let mut w = Writer::default();
        value.put(&mut w);
        prop_assert_eq!(w.bytes(), &bytes[..bytes.len() - r.left()]);
    }
    Ok(())
}

fn seal_after(batch: &Batch) -> Row {
    seal(batch, Hash32([7; 32]))
}

/// Tells whether a row is refused for its hash.
fn is_hash(row: &Row) -> bool {
    matches!(read(row), Err(BadRow::Hash { .. }))
}

/// Tells whether a row is refused for its payload.
fn is_payload(row: &Row) -> bool {
    matches!(read(row), Err(BadRow::Payload { .. }))
}

/// Gives a changed row the hash that its bytes have, as an attacker would: the codec alone must refuse it.
fn rehashed(mut row: Row) -> Row {
    row.hash = row_hash(&row);
    row
}

proptest! {
    #[test]
    fn prop_every_action_comes_back(action in action()) {
        comes_back(&action)?;
    }

    #[test]
    fn prop_every_event_comes_back(event in event()) {
        comes_back(&event)?;
    }

    #[test]
    fn prop_every_record_comes_back(record in record()) {
        comes_back(&record)?;
    }

    #[test]
    fn prop_every_command_comes_back(command in command(), base in time()) {
        let mut w = Writer::default();
        put_command(&command, base, &mut w);
        let mut r = Reader::new(w.bytes());
        prop_assert_eq!(get_command(base, &mut r), Ok(command));
        prop_assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn prop_every_batch_comes_back(batch in batch(12)) {
        prop_assert_eq!(read(&seal_after(&batch)), Ok(batch));
    }

    #[test]
    fn prop_every_message_comes_back(incarnation: u64, seen: u64, command in command()) {
        let message = Message { incarnation, seen: Sequence::new(seen), command };
        let bytes = message.encode();
        prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        for length in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..length]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Message::decode(&longer).is_err());
    }

    #[test]
    fn prop_a_changed_row_is_refused(batch in batch(3), at: prop::sample::Index, flip in 1_u8..) {
        let row = seal_after(&batch);
        let mut changed = row.clone();
        changed.payload[at.index(row.payload.len())] ^= flip;
        prop_assert!(is_hash(&changed));
        // With a hash that fits it is refused, or read as what it now says; it never panics.
        let _ = read(&rehashed(changed));
        let mut cut = row.clone();
        cut.payload.truncate(at.index(row.payload.len()));
        prop_assert!(is_payload(&rehashed(cut)));
        let mut more = row;
        more.commands += 1;
        prop_assert!(is_payload(&rehashed(more)));
    }

    #[test]
    fn prop_random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300), commands in 0_u32..9) {
        let _ = Message::decode(&bytes);
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        let _ = Message::decode(&versioned);
        let _ = SnapshotReader::new().push_chunk(&bytes);
        one_encoding::<Action>(&bytes)?;
        one_encoding::<Event>(&bytes)?;
        one_encoding::<Record>(&bytes)?;
        // The bytes as a payload, and as what a payload holds.
        let batch = Batch {
            sequence: Sequence::new(1),
            time: Time::ZERO,
            incarnation: 0,
            epoch: 0,
            rules: RULES,
            entries: Vec::new(),
        };
        for payload in [bytes.clone(), crate::block::compress(&bytes)] {
            let row = Row { payload, commands, ..seal_after(&batch) };
            let _ = read(&rehashed(row));
        }
    }

    /// One byte of a good message changed: refused, or another message, which is written as the changed bytes.
    #[test]
    fn prop_a_changed_message_is_refused_or_another(
        command in command(), at: prop::sample::Index, flip in 1_u8..
    ) {
        let message = Message { incarnation: 5, seen: Sequence::new(9), command };
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Message::decode(&bytes) {
            prop_assert_ne!(&other, &message);
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}

fn fixed_batch() -> Batch {
    let order = NewOrder {
        account: AccountId::new(1_000),
        market: MarketId::new(2),
        side: Side::Sell,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Ioc,
        post_only: false,
        price: PriceTicks::new(50_000),
        quantity: QuantityLots::new(300),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelOldest,
        client_order_id: engine::ClientOrderId::new("my-order/1"),
    };
    let fill = |trade, maker, price| {
        Step::Fill(Fill {
            trade_id: TradeId::new(trade),
            maker: OrderId::new(maker),
            maker_account: AccountId::new(1_001),
            price: PriceTicks::new(price).unwrap(),
            quantity: QuantityLots::new(100),
            maker_fee: Amount::new(10),
            taker_fee: Amount::new(20),
        })
    };
    let placed = PlacedOrder {
        order_id: OrderId::new(77),
        limit: PriceTicks::new(50_000),
        hold: Amount::new(3_000_000),
        steps: vec![
            fill(900, 70, 50_001),
            Step::MakerCancelled { maker: OrderId::new(71), remaining: QuantityLots::new(5) },
            fill(901, 72, 50_000),
        ],
        ending: Ending::Cancelled(engine::CancelReason::ImmediateOrCancel),
    };
    let command = Command {
        id: CommandId::new(0x0190_0000_0000_7000_8000_0000_0000_0001),
        body_hash: 0x0123_4567_89ab_cdef,
        expires_at: Time::from_micros(1_700_000_015_000_000),
        trace_id: 0xabcd_ef00_1122_3344_5566_7788_99aa_bbcc,
        origin: Origin::Client,
        action: Action::PlaceOrder(order),
    };
    let tick = Command {
        id: CommandId::new(0),
        body_hash: 0,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Internal,
        action: Action::Tick,
    };
    Batch {
        sequence: Sequence::new(42),
        time: Time::from_micros(1_700_000_000_000_000),
        incarnation: 0xfeed,
        epoch: 3,
        rules: RULES,
        entries: vec![
            Entry { command, event: Event::OrderPlaced(placed) },
            Entry { command: tick, event: Event::Done },
        ],
    }
}

/// Compares with the committed text; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(name);
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, format!("{text}\n")).expect("the golden file can be written");
    }
    let committed = std::fs::read_to_string(&file).expect("the golden file can be read");
    let digits = committed.trim().as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A change here is a change of the journal's format: it needs a new [`FORMAT`], and a reader for the old one.
#[test]
fn the_bytes_of_a_row_stay_as_they_are() {
    let row = seal_after(&fixed_batch());
    let mut entries = Vec::new();
    crate::block::decompress(&row.payload, 10_000, &mut entries).unwrap();
    assert_eq!(entries, golden("row_entries.hex", &entries));

    // The compressor may come to compress otherwise; the row that was once written must be read for ever.
    let payload = golden("row_payload.hex", &row.payload);
    let hash = golden("row_hash.hex", &row.hash.0);
    let written = Row { payload, hash: Hash32(hash.try_into().unwrap()), ..row };
    assert_eq!(read(&written), Ok(fixed_batch()));
}

/// A change here is a change of the message's version.
#[test]
fn the_bytes_of_a_message_stay_as_they_are() {
    let command = fixed_batch().entries.remove(0).command;
    let message = Message { incarnation: 0xfeed, seen: Sequence::new(41), command };
    assert_eq!(message.encode(), golden("message.hex", &message.encode()));
}

/// The first byte of a variant is its number in the format.
#[test]
fn the_strategies_name_every_variant() {
    fn numbers<T: Code>(strategy: impl Strategy<Value = T>) -> std::collections::BTreeSet<u8> {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut numbers = std::collections::BTreeSet::new();
        for _ in 0..2_000 {
            let value = strategy.new_tree(&mut runner).unwrap().current();
            let mut w = Writer::default();
            value.put(&mut w);
            numbers.insert(w.bytes()[0]);
        }
        numbers
    }
    assert_eq!(numbers(action()), (1..=26).collect());
    assert_eq!(numbers(event()), (1..=9).collect());
    assert_eq!(numbers(record()), (1..=15).collect());
}

#[test]
fn each_byte_of_a_row_counts() {
    let row = seal_after(&fixed_batch());
    assert_eq!(read(&row), Ok(fixed_batch()));

    for at in 0..row.payload.len() {
        let mut changed = row.clone();
        changed.payload[at] ^= 1;
        assert!(is_hash(&changed), "payload byte {at}");
        let mut cut = row.clone();
        cut.payload.truncate(at);
        assert!(is_hash(&cut), "payload cut at {at}");
    }
    for at in 0..32 {
        let mut changed = row.clone();
        changed.previous_hash.0[at] ^= 1;
        assert!(is_hash(&changed));
        let mut changed = row.clone();
        changed.hash.0[at] ^= 1;
        assert!(is_hash(&changed));
    }
    let header: [fn(&mut Row); 6] = [
        |row| row.sequence = Sequence::new(43),
        |row| row.time = Time::from_micros(1),
        |row| row.incarnation += 1,
        |row| row.epoch += 1,
        |row| row.rules += 1,
        |row| row.commands += 1,
    ];
    for change in header {
        let mut changed = row.clone();
        change(&mut changed);
        assert!(is_hash(&changed));
        assert_eq!(read(&changed).unwrap_err().sequence(), changed.sequence);
    }
}

#[test]
fn unknown_versions_are_named() {
    let row = seal_after(&fixed_batch());
    let newer = rehashed(Row { format: FORMAT + 1, ..row.clone() });
    assert_eq!(
        read(&newer),
        Err(BadRow::UnknownFormat { sequence: Sequence::new(42), format: FORMAT + 1 })
    );
    let older = rehashed(Row { format: 0, ..row.clone() });
    assert!(matches!(read(&older), Err(BadRow::UnknownFormat { .. })));
    let newer = rehashed(Row { rules: RULES + 1, ..row });
    assert_eq!(
        read(&newer),
        Err(BadRow::UnknownRules { sequence: Sequence::new(42), rules: RULES + 1 })
    );
    assert_eq!(Message::decode(&[2, 0, 0]), Err(BadMessage::UnknownVersion(2)));
    assert_eq!(
        Message::decode(&[1; MESSAGE_BYTES_MAX + 1]),
        Err(BadMessage::TooLong(MESSAGE_BYTES_MAX + 1))
    );
}

/// A release that does not know an action stops at its row, whatever else is in it, and takes no message of it.
#[test]
fn an_unknown_action_is_refused() {
    let mut unknown = Writer::default();
    let command = &fixed_batch().entries[1].command;
    put_command(command, Time::ZERO, &mut unknown);
    let mut unknown = unknown.into_bytes();
    let last = unknown.pop();
    assert_eq!(last, Some(2), "a tick's bytes end with its number");
    unknown.push(27);
    let taken = get_command(Time::ZERO, &mut Reader::new(&unknown));
    assert_eq!(taken.map_err(|bad| bad.what), Err("an unknown action"));
    let message =
        Message { incarnation: 1, seen: Sequence::new(1), command: command.clone() }.encode();
    let message = [&message[..message.len() - 1], &[27]].concat();
    assert!(matches!(
        Message::decode(&message),
        Err(BadMessage::Bytes(BadBytes { what: "an unknown action", .. }))
    ));

    let row = rehashed(Row {
        commands: 1,
        payload: crate::block::compress(&[&unknown[..], &[2]].concat()),
        ..seal_after(&fixed_batch())
    });
    assert!(matches!(
        read(&row),
        Err(BadRow::Payload { bytes: BadBytes { what: "an unknown action", .. }, .. })
    ));
}

/// A change here is a change of what older releases have written.
#[test]
fn the_bytes_of_an_audit_head_stay_as_they_are() {
    let head = engine::AuditHead { rows: 300, head: Hash32([0xab; 32]) };
    let mut w = Writer::default();
    Action::NoteAuditHead(head).put(&mut w);
    assert_eq!(w.bytes(), [&[26, 0xac, 2][..], &[0xab; 32]].concat());
    let mut w = Writer::default();
    Record::AuditHead(head).put(&mut w);
    assert_eq!(w.bytes(), [&[15, 0xac, 2][..], &[0xab; 32]].concat());
}

/// Lists that claim more items than there are bytes are refused before memory is taken.
#[test]
fn a_long_list_must_have_its_bytes() {
    // Event 6 (OrdersCancelled) with 2^60 orders.
    let mut w = Writer::default();
    w.u8(6);
    w.varint(1 << 60);
    w.raw(&[0; 64]);
    assert!(Event::get(&mut Reader::new(w.bytes())).is_err());
    // Event 3 (OrderPlaced) with 2^60 steps.
    let mut w = Writer::default();
    w.raw(&[3, 1, 0, 0, 0]);
    w.varint(1 << 60);
    w.raw(&[0; 64]);
    assert!(Event::get(&mut Reader::new(w.bytes())).is_err());
}
