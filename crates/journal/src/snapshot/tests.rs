//! A snapshot comes back whole, or not at all.

use engine::{
    Action, AssetConfig, ClientOrderId, Command, Decision, Event, Limits, MarketConfig, NewOrder,
    OrderType, Origin, SelfTradePrevention, Settings, Side, Stamp, TimeInForce,
};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots, RatePpm,
    ReferenceHash,
};

use super::*;

fn market() -> MarketConfig {
    MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(1),
        quote: AssetId::new(0),
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(1),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(1_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: Some(RatePpm::new(500_000)),
        halt_move: None,
        initial_price: PriceTicks::new(100),
    }
}

fn order(n: u64) -> NewOrder {
    let side = if n.is_multiple_of(2) { Side::Buy } else { Side::Sell };
    NewOrder {
        account: AccountId::new(1_000 + n % 3),
        market: MarketId::new(0),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        // Bids below a hundred, asks above: all of them rest.
        price: PriceTicks::new(if side == Side::Buy { 60 + n % 40 } else { 101 + n % 40 }),
        quantity: QuantityLots::new(1 + n % 9),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: ClientOrderId::new(&format!("order-{n}")),
    }
}

/// A state with this many resting orders.
fn state_with(orders: u64) -> State {
    let settings = Settings { incarnation: 9, salt: 3, sandbox: true };
    let limits =
        Limits { open_orders_max: 1_000_000, orders_per_second_max: 0, ..Limits::default() };
    let asset = |symbol: &str| {
        Action::DefineAsset(AssetConfig { symbol: symbol.into(), scale: 0, transfer_scale: 0 })
    };
    let mut actions = vec![
        Action::Genesis(settings),
        Action::SetLimits(limits),
        asset("USD"),
        asset("BTC"),
        Action::DefineMarket(market()),
    ];
    for account in 1_000..1_003 {
        let account = AccountId::new(account);
        actions.push(Action::OpenAccount { account });
        for asset in 0..2 {
            actions.push(Action::Deposit {
                account,
                asset: AssetId::new(asset),
                amount: Amount::new(1 << 60),
                reference: ReferenceHash::new(u128::from(account.get() * 2 + u64::from(asset))),
                sandbox: true,
            });
        }
    }
    actions.extend((0..orders).map(|n| Action::PlaceOrder(order(n))));
    let mut state = State::new();
    state.open_batch(Stamp { sequence: Sequence::new(1), time: Time::from_micros(1_000_000) });
    for (id, action) in (1..).zip(actions) {
        let command = Command {
            id: CommandId::new(id),
            body_hash: 4,
            expires_at: Time::MAX,
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        let decision = engine::run(&mut state, &command, &mut ());
        assert!(matches!(decision, Decision::Event(Event::Done | Event::OrderPlaced(_))));
    }
    state
}

fn chunks_of(state: &State) -> (Vec<Vec<u8>>, Hash32) {
    let mut chunks = Vec::new();
    let hash = write_snapshot(state, &mut |chunk| chunks.push(chunk));
    (chunks, hash)
}

fn read(chunks: &[Vec<u8>], hash: Hash32) -> Result<State, BadSnapshot> {
    let mut reader = SnapshotReader::new();
    for chunk in chunks {
        reader.push_chunk(chunk)?;
    }
    reader.finish(hash)
}

#[test]
fn a_snapshot_of_many_chunks_comes_back() {
    let state = state_with(40_000);
    let (chunks, hash) = chunks_of(&state);
    assert!(chunks.len() > 2, "it takes {} chunks", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    assert_eq!(hash, state_hash(&state));

    let back = read(&chunks, hash).expect("what was written can be read");
    assert_eq!(state_hash(&back), hash);
    assert_eq!(back.check(), Ok(()));
    assert_eq!(back.open_orders(AccountId::new(1_001)).count(), 13_333);

    // Chunks that are missing, doubled or out of order are no snapshot.
    assert!(read(&chunks[1..], hash).is_err());
    assert!(read(&chunks[..chunks.len() - 1], hash).is_err());
    let mut doubled = chunks.clone();
    doubled.insert(1, chunks[1].clone());
    assert!(read(&doubled, hash).is_err());
    let mut swapped = chunks;
    swapped.swap(0, 1);
    assert!(read(&swapped, hash).is_err());
}

#[test]
fn each_byte_of_a_snapshot_counts() {
    let state = state_with(5);
    let (chunks, hash) = chunks_of(&state);
    assert!(read(&chunks, hash).is_ok());
    assert_eq!(
        read(&chunks, Hash32([1; 32])).unwrap_err(),
        BadSnapshot::Hash { expected: Hash32([1; 32]), computed: hash }
    );
    let [chunk] = &chunks[..] else { panic!("a small state is one chunk") };
    for at in 0..chunk.len() {
        for flip in [1, 0x80] {
            let mut changed = chunk.clone();
            changed[at] ^= flip;
            // LZ4 has more than one way to say the same: then the state is the same, and never another.
            if let Ok(back) = read(&[changed], hash) {
                assert_eq!(state_hash(&back), hash);
            }
        }
        assert!(read(&[chunk[..at].to_vec()], hash).is_err(), "cut at {at}");
    }
}

#[test]
fn states_that_differ_have_different_hashes() {
    let hashes: std::collections::BTreeSet<_> =
        (0..20).map(|orders| state_hash(&state_with(orders))).collect();
    assert_eq!(hashes.len(), 20);
    assert_eq!(state_hash(&state_with(7)), state_hash(&state_with(7)));
}
