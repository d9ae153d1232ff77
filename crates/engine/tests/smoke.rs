//! The shortest way through the engine: two accounts, one trade, exact balances.

use engine::{
    Action, AssetConfig, Command, Decision, Effects, Ending, Event, MarketConfig, NewOrder,
    OrderType, Origin, SelfTradePrevention, Settings, Side, Stamp, State, TimeInForce,
    internal_command, run,
};
use units::*;

fn client(id: u128, action: Action) -> Command {
    Command {
        id: CommandId::new(id),
        body_hash: 0,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Client,
        action,
    }
}

fn limit(account: u64, side: Side, price: u64, quantity: u64) -> Action {
    Action::PlaceOrder(NewOrder {
        account: AccountId::new(account),
        market: MarketId::new(0),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: PriceTicks::new(price),
        quantity: QuantityLots::new(quantity),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    })
}

#[test]
fn one_trade_settles_to_the_last_unit() {
    let mut state = State::new();
    let mut effects = Effects::default();
    state.open_batch(Stamp { sequence: Sequence::new(1), time: Time::from_micros(1) });
    let (usd, btc) = (AssetId::new(0), AssetId::new(1));
    let mut setup = vec![internal_command(Action::Genesis(Settings {
        incarnation: 1,
        salt: 2,
        sandbox: true,
    }))];
    for (symbol, scale) in [("USD", 10), ("BTC", 8)] {
        let config = AssetConfig { symbol: symbol.into(), scale, transfer_scale: 2 };
        setup.push(internal_command(Action::DefineAsset(config)));
    }
    setup.push(internal_command(Action::DefineMarket(MarketConfig {
        symbol: "BTC/USD".into(),
        base: btc,
        quote: usd,
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(100_000_000),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(1 << 50),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: None,
    })));
    for account in [1000, 1001] {
        setup.push(internal_command(Action::OpenAccount { account: AccountId::new(account) }));
        for asset in [usd, btc] {
            setup.push(internal_command(Action::Deposit {
                account: AccountId::new(account),
                asset,
                amount: Amount::new(1_000_000_000_000),
                reference: ReferenceHash::new(u128::from(account * 10 + u64::from(asset.get()))),
                sandbox: true,
            }));
        }
    }
    for command in &setup {
        assert_eq!(run(&mut state, command, &mut effects), Decision::Event(Event::Done));
    }
    let rest = run(&mut state, &client(1, limit(1000, Side::Sell, 100, 50)), &mut effects);
    assert!(
        matches!(rest, Decision::Event(Event::OrderPlaced(placed)) if placed.ending == Ending::Rests)
    );
    let take = run(&mut state, &client(2, limit(1001, Side::Buy, 110, 80)), &mut effects);
    let Decision::Event(Event::OrderPlaced(placed)) = take else { panic!("the order is placed") };
    assert_eq!((placed.ending, placed.steps.len()), (Ending::Rests, 1));
    state.check().expect("every invariant holds");
    // The buyer paid 50 × 100 = 5,000 and holds 30 × 110; of 50 lots, 1 is the fee (0.2 % rounded up).
    let buyer = state.balance(AccountId::new(1001), usd);
    assert_eq!(buyer.held, Amount::new(3_300));
    assert_eq!(buyer.total(), Amount::new(1_000_000_000_000 - 5_000));
    assert_eq!(state.balance(AccountId::new(1001), btc).total(), Amount::new(1_000_000_000_049));
    assert_eq!(state.balance(AccountId::FEES, btc).available, Amount::new(1));
    assert_eq!(state.balance(AccountId::FEES, usd).available, Amount::new(5));
    assert_eq!(effects.trades.len(), 1);
    assert_eq!(effects.postings.iter().map(|posting| posting.amount).sum::<i128>(), 0);
}
