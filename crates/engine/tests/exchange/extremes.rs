//! The greatest and the least numbers there are, in every field: refused or carried out to the unit, never a panic,
//! never a wrapped sum. The naive exchange has no opinion here; the state's own invariants do.

use engine::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use units::*;

fn number() -> impl Strategy<Value = u64> {
    let edges =
        select(vec![0, 1, 2, 99, 100, 101, 1 << 31, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX]);
    prop_oneof![3 => edges, 1 => any::<u64>(), 2 => 90_u64..110]
}

fn units() -> impl Strategy<Value = Amount> {
    let most = Amount::COMMAND_MAX.get();
    let edges = select(vec![0, 1, 1 << 64, most - 1, most, most + 1, 1 << 127, u128::MAX]);
    prop_oneof![3 => edges, 1 => any::<u128>()].prop_map(Amount::new)
}

fn price() -> impl Strategy<Value = Option<PriceTicks>> {
    of(number()).prop_map(|ticks| ticks.and_then(PriceTicks::new))
}

fn account() -> impl Strategy<Value = AccountId> {
    prop_oneof![9 => 1_000_u64..1_003, 1 => number()].prop_map(AccountId::new)
}

fn asset() -> impl Strategy<Value = AssetId> {
    prop_oneof![9 => 0_u16..2, 1 => any::<u16>()].prop_map(AssetId::new)
}

/// The ids of the orders that come, more or less.
fn id() -> impl Strategy<Value = CommandId> {
    (0_u128..60).prop_map(CommandId::new)
}

fn order() -> impl Strategy<Value = NewOrder> {
    let kind = (
        account(),
        select(vec![Side::Buy, Side::Sell]),
        select(vec![
            OrderType::Limit,
            OrderType::Limit,
            OrderType::Market,
            OrderType::StopLimit,
            OrderType::StopMarket,
        ]),
        select(vec![
            TimeInForce::Gtc,
            TimeInForce::Gtc,
            TimeInForce::Ioc,
            TimeInForce::Fok,
            TimeInForce::Gtd(Time::MAX),
        ]),
        select(vec![
            SelfTradePrevention::CancelNewest,
            SelfTradePrevention::CancelBoth,
            SelfTradePrevention::Allow,
        ]),
    );
    (kind, price(), number(), of(units()), price(), of(number())).prop_map(
        |(kind, price, lots, quote, trigger, display)| {
            let (account, side, order_type, time_in_force, self_trade_prevention) = kind;
            let stop = matches!(order_type, OrderType::StopLimit | OrderType::StopMarket);
            let limit = matches!(order_type, OrderType::Limit | OrderType::StopLimit);
            let rests = order_type == OrderType::Limit && time_in_force == TimeInForce::Gtc;
            NewOrder {
                account,
                market: MarketId::new(0),
                side,
                order_type,
                time_in_force,
                post_only: false,
                price: price.filter(|_| limit),
                quantity: QuantityLots::new(lots),
                quote_amount: quote.filter(|_| order_type == OrderType::Market),
                trigger: trigger.filter(|_| stop),
                display: display.filter(|_| rests).map(QuantityLots::new),
                self_trade_prevention,
                client_order_id: None,
            }
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let amend = (account(), id(), price(), of(number())).prop_map(|(account, id, price, lots)| {
        Action::AmendOrder(AmendOrder {
            account,
            order: OrderRef::Id(id),
            price,
            quantity: lots.map(QuantityLots::new),
        })
    });
    let deposit = (account(), asset(), units(), any::<u128>()).prop_map(
        |(account, asset, amount, reference)| Action::Deposit {
            account,
            asset,
            amount,
            reference: ReferenceHash::new(reference),
            sandbox: true,
        },
    );
    let limits = vec(number(), 6).prop_map(|n| {
        let short = |n: u64| n as u32;
        Action::SetLimits(Limits {
            open_orders_max: short(n[0]).max(5),
            maker_open_orders_max: short(n[1]),
            orders_per_second_max: 0,
            maker_orders_per_second_max: short(n[3]),
            steps_max: short(n[4]),
            dedup_window_micros: n[5].max(60_000_000),
        })
    });
    prop_oneof![
        20 => order().prop_map(Action::PlaceOrder),
        4 => amend,
        3 => deposit,
        2 => (account(), id())
            .prop_map(|(account, id)| Action::CancelOrder { account, order: OrderRef::Id(id) }),
        1 => account().prop_map(|account| Action::CancelAll { account, market: None }),
        1 => (account(), account(), asset(), units())
            .prop_map(|(from, to, asset, amount)| Action::Transfer { from, to, asset, amount }),
        1 => (account(), asset(), units()).prop_map(|(account, asset, amount)| {
            Action::RequestWithdrawal { account, asset, amount, destination: ReferenceHash::new(1) }
        }),
        1 => id().prop_map(|withdrawal| Action::FailWithdrawal { withdrawal }),
        1 => limits,
        1 => market().prop_map(Action::DefineMarket),
        1 => (asset(), any::<u8>(), any::<u8>()).prop_map(|(asset, scale, transfer_scale)| {
            let symbol = if asset.get() == 0 { "USD" } else { "BTC" }.into();
            Action::DefineAsset(AssetConfig { symbol, scale, transfer_scale })
        }),
    ]
}

/// The one market with other rules; or a market that cannot be.
fn market() -> impl Strategy<Value = MarketConfig> {
    let rates = (0_u32..1_000_000, 0_u32..1_000_000, of(0_u32..1_000_000), of(any::<u32>()));
    let grid = prop_oneof![4 => Just((1, 1)), 1 => (number(), number())];
    (rates, grid, units(), number(), price()).prop_map(|(rates, grid, least, most, price)| {
        MarketConfig {
            symbol: "BTC/USD".into(),
            base: AssetId::new(1),
            quote: AssetId::new(0),
            base_units_per_lot: grid.0,
            quote_units_per_tick_lot: grid.1,
            tick_size: Amount::new(1),
            notional_min: Amount::new(least.get() % 1_000),
            quantity_max: QuantityLots::new(most.max(1 << 33)),
            maker_fee: RatePpm::new(rates.0),
            taker_fee: RatePpm::new(rates.1),
            band: rates.2.map(RatePpm::new),
            halt_move: rates.3.map(RatePpm::new),
            initial_price: price,
        }
    })
}

fn birth() -> Vec<Action> {
    let asset = |symbol: &str| {
        Action::DefineAsset(AssetConfig { symbol: symbol.into(), scale: 0, transfer_scale: 0 })
    };
    let mut actions = vec![
        Action::Genesis(Settings { incarnation: 1, salt: 1, sandbox: true }),
        Action::SetLimits(Limits { orders_per_second_max: 0, ..Limits::default() }),
        asset("USD"),
        asset("BTC"),
        Action::DefineMarket(MarketConfig {
            symbol: "BTC/USD".into(),
            base: AssetId::new(1),
            quote: AssetId::new(0),
            base_units_per_lot: 1,
            quote_units_per_tick_lot: 1,
            tick_size: Amount::new(1),
            notional_min: Amount::ZERO,
            quantity_max: QuantityLots::new(u64::MAX),
            maker_fee: RatePpm::new(999_999),
            taker_fee: RatePpm::new(1),
            band: None,
            halt_move: Some(RatePpm::new(u32::MAX)),
            initial_price: None,
        }),
    ];
    for account in 1_000..1_003 {
        let account = AccountId::new(account);
        actions.push(Action::OpenAccount { account });
        for asset in 0..2 {
            actions.push(Action::Deposit {
                account,
                asset: AssetId::new(asset),
                amount: Amount::COMMAND_MAX,
                reference: ReferenceHash::new(u128::from(account.get() * 2 + u64::from(asset))),
                sandbox: true,
            });
        }
    }
    actions
}

proptest! {
    #[test]
    fn prop_no_number_is_too_great_or_too_small(actions in vec(action(), 1..60)) {
        let mut state = State::new();
        state.open_batch(Stamp { sequence: Sequence::new(1), time: Time::from_micros(1) });
        let born = birth();
        let ids = (1_000_u128..).take(born.len()).chain(0..);
        for (id, action) in ids.zip(born.into_iter().chain(actions)) {
            let command = Command {
                id: CommandId::new(id),
                body_hash: 0,
                expires_at: Time::MAX,
                trace_id: 0,
                origin: Origin::Client,
                action,
            };
            run(&mut state, &command, &mut ());
            let mut own_work = 0;
            while let Some(action) = next_internal(&state) {
                run(&mut state, &internal_command(action), &mut ());
                own_work += 1;
                assert!(own_work < 1_000, "the state's own work comes to an end");
            }
            prop_assert_eq!(state.check(), Ok(()), "after {:?}", command);
        }
        let back = crate::properties::through_snapshot(&state);
        prop_assert_eq!(journal::state_hash(&back), journal::state_hash(&state));
    }
}
