//! The scenes, most of them bugs that real exchanges and published books have had; and two that are too long to read.

use engine::*;
use units::*;

use crate::scenario::check;

macro_rules! scenes {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

scenes! {
    a_buyer_never_pays_more_than_the_limit
    a_cancel_all_goes_market_by_market
    a_cancel_and_its_order_may_come_in_either_order
    a_cancel_is_still_there_after_a_restart
    a_cancel_keeps_everybody_elses_place
    a_cancel_leaves_no_level_behind
    a_fill_is_at_the_makers_price
    a_market_order_stops_at_the_band
    a_market_order_without_a_price_cannot_overflow
    a_market_sell_by_quote_amount_takes_the_best_bid_first
    a_partial_fill_reduces_the_maker
    a_refused_amend_changes_nothing
    a_repeat_has_no_effect
    amends_keep_or_lose_their_place
    an_audit_head_only_rises
    an_iceberg_shows_a_slice_at_a_time
    an_ioc_remainder_does_not_rest
    fees_round_against_the_payer
    fill_or_kill_counts_all_makers
    money_is_spent_once
    nothing_is_lost_to_dust
    orders_end_in_time
    post_only_never_takes
    self_trades_are_prevented
    stops_trigger_in_their_order
    too_many_steps_are_cut_off
}

fn command(id: u128, action: Action) -> Command {
    Command {
        id: CommandId::new(id),
        body_hash: 0,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Client,
        action,
    }
}

fn limit_order(account: u64, side: Side, price: u64, lots: u64) -> NewOrder {
    NewOrder {
        account: AccountId::new(account),
        market: MarketId::new(0),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: PriceTicks::new(price),
        quantity: QuantityLots::new(lots),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    }
}

/// A state with one market and two rich accounts, 1000 and 1001.
fn rich_state() -> State {
    let mut state = State::new();
    state.open_batch(Stamp { sequence: Sequence::new(1), time: Time::from_micros(1) });
    let settings = Settings { incarnation: 1, salt: 1, sandbox: true };
    let mut actions = vec![
        Action::Genesis(settings),
        Action::SetLimits(Limits {
            open_orders_max: 20_000,
            orders_per_second_max: 0,
            ..Limits::default()
        }),
    ];
    for symbol in ["USD", "BTC"] {
        let symbol = symbol.into();
        actions.push(Action::DefineAsset(AssetConfig { symbol, scale: 0, transfer_scale: 0 }));
    }
    actions.push(Action::DefineMarket(MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(1),
        quote: AssetId::new(0),
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(1),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(u64::MAX),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: None,
    }));
    for account in [1_000, 1_001] {
        let account = AccountId::new(account);
        actions.push(Action::OpenAccount { account });
        for asset in [0, 1] {
            actions.push(Action::Deposit {
                account,
                asset: AssetId::new(asset),
                amount: Amount::new(1 << 80),
                reference: ReferenceHash::new(u128::from(account.get() * 2 + u64::from(asset))),
                sandbox: true,
            });
        }
    }
    for (id, action) in (1..).zip(actions) {
        let decision = run(&mut state, &command(id, action), &mut ());
        assert_eq!(decision, Decision::Event(Event::Done));
    }
    state
}

/// Others recurse once per fill, and end with their stack.
#[test]
fn one_order_fills_ten_thousand_others_on_a_small_stack() {
    let sweep = || {
        let mut state = rich_state();
        for n in 0..10_000_u32 {
            let order = limit_order(1_000, Side::Sell, 100 + u64::from(n % 7), 1);
            let placed = run(
                &mut state,
                &command(1_000 + u128::from(n), Action::PlaceOrder(order)),
                &mut (),
            );
            assert!(matches!(placed, Decision::Event(Event::OrderPlaced(_))), "{placed:?}");
        }
        let order = limit_order(1_001, Side::Buy, 106, 10_000);
        let decision = run(&mut state, &command(99, Action::PlaceOrder(order)), &mut ());
        let Decision::Event(Event::OrderPlaced(placed)) = decision else {
            panic!("{decision:?}");
        };
        assert_eq!((placed.steps.len(), placed.ending), (10_000, Ending::Filled));
        assert_eq!(state.check(), Ok(()));
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(sweep);
    thread.expect("a thread can be started").join().expect("the sweep ends well");
}

/// The dearest orders there can be are refused or held to the unit; nothing wraps.
#[test]
fn the_greatest_prices_and_quantities_do_not_overflow() {
    let mut state = rich_state();
    let mut id = 1_000;
    let mut place = |order: NewOrder| {
        id += 1;
        let decision = run(&mut state, &command(id, Action::PlaceOrder(order)), &mut ());
        assert_eq!(state.check(), Ok(()));
        decision
    };
    // 2^64 × 2^64 units are more than the greatest amount of one command.
    for side in [Side::Buy, Side::Sell] {
        let decision = place(limit_order(1_000, side, u64::MAX, u64::MAX));
        assert_eq!(decision, Decision::Event(Event::Rejected(Reject::NotionalTooLarge)));
    }
    // 2^64 × 1,000 units are not, but nobody has as many as 2^80.
    let decision = place(limit_order(1_000, Side::Buy, u64::MAX, 1 << 17));
    assert_eq!(decision, Decision::Event(Event::Rejected(Reject::InsufficientFunds)));
    // A dear ask stands, and a market order takes it at its price.
    let decision = place(limit_order(1_000, Side::Sell, u64::MAX, 1_000));
    assert!(matches!(decision, Decision::Event(Event::OrderPlaced(_))), "{decision:?}");
    let market = NewOrder {
        order_type: OrderType::Market,
        time_in_force: TimeInForce::Ioc,
        price: None,
        ..limit_order(1_001, Side::Buy, 1, 1_000)
    };
    let Decision::Event(Event::OrderPlaced(placed)) = place(market) else {
        panic!("it is affordable");
    };
    assert_eq!(placed.hold, Amount::new(u128::from(u64::MAX) * 1_000));
    assert_eq!(placed.ending, Ending::Filled);
}
