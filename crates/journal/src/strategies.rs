//! Random values of everything that has bytes, for the tests.

use engine::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use units::*;

use crate::{Batch, Entry};

/// Numbers of every length, the greatest included.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
}

fn wide() -> impl Strategy<Value = u128> {
    (any::<u128>(), 0_u32..128).prop_map(|(value, shift)| value >> shift)
}

pub(crate) fn time() -> impl Strategy<Value = Time> {
    prop_oneof![number(), Just(u64::MAX), 1_700_000_000_000_000_u64..1_800_000_000_000_000]
        .prop_map(Time::from_micros)
}

fn amount() -> impl Strategy<Value = Amount> {
    wide().prop_map(Amount::new)
}

fn lots() -> impl Strategy<Value = QuantityLots> {
    number().prop_map(QuantityLots::new)
}

fn price() -> impl Strategy<Value = PriceTicks> {
    number().prop_map(|ticks| PriceTicks::new(ticks.max(1)).unwrap())
}

fn rate() -> impl Strategy<Value = RatePpm> {
    any::<u32>().prop_map(RatePpm::new)
}

fn account() -> impl Strategy<Value = AccountId> {
    number().prop_map(AccountId::new)
}

fn asset() -> impl Strategy<Value = AssetId> {
    any::<u16>().prop_map(AssetId::new)
}

fn market() -> impl Strategy<Value = MarketId> {
    any::<u16>().prop_map(MarketId::new)
}

fn sequence() -> impl Strategy<Value = Sequence> {
    number().prop_map(Sequence::new)
}

fn id() -> impl Strategy<Value = CommandId> {
    any::<u128>().prop_map(CommandId::new)
}

fn reference() -> impl Strategy<Value = ReferenceHash> {
    any::<u128>().prop_map(ReferenceHash::new)
}

fn client_order_id() -> impl Strategy<Value = ClientOrderId> {
    "[A-Za-z0-9._:/-]{1,36}".prop_map(|text| ClientOrderId::new(&text).unwrap())
}

fn flags() -> impl Strategy<Value = AccountFlags> {
    any::<[bool; 4]>().prop_map(|[locked, withdrawals_frozen, market_maker, closed]| AccountFlags {
        locked,
        withdrawals_frozen,
        market_maker,
        closed,
    })
}

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Buy, Side::Sell])
}

fn order_type() -> impl Strategy<Value = OrderType> {
    use OrderType::*;
    select(vec![Limit, Limit, Limit, Market, StopLimit, StopMarket])
}

fn time_in_force() -> impl Strategy<Value = TimeInForce> {
    use TimeInForce::*;
    prop_oneof![Just(Gtc), Just(Gtc), Just(Ioc), Just(Fok), time().prop_map(Gtd)]
}

fn self_trade_prevention() -> impl Strategy<Value = SelfTradePrevention> {
    use SelfTradePrevention::*;
    select(vec![CancelNewest, CancelNewest, CancelOldest, CancelBoth, Allow])
}

fn cancel_reason() -> impl Strategy<Value = CancelReason> {
    use CancelReason::*;
    select(vec![
        Requested,
        CancelledBeforeArrival,
        ImmediateOrCancel,
        FillOrKill,
        NoLiquidity,
        Band,
        QuoteAmountSpent,
        SelfTrade,
        TooManySteps,
        Account,
        Expired,
        TriggerRefused,
    ])
}

fn market_state() -> impl Strategy<Value = MarketState> {
    use MarketState::*;
    select(vec![Open, CancelOnly, PostOnly, Halted])
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(incarnation, salt, sandbox)| Settings {
        incarnation,
        salt,
        sandbox,
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (any::<[u32; 5]>(), number()).prop_map(|([a, b, c, d, e], dedup_window_micros)| Limits {
        open_orders_max: a,
        maker_open_orders_max: b,
        orders_per_second_max: c,
        maker_orders_per_second_max: d,
        steps_max: e,
        dedup_window_micros,
    })
}

fn symbol() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,40}".prop_map(Into::into)
}

fn asset_config() -> impl Strategy<Value = AssetConfig> {
    (symbol(), any::<u8>(), any::<u8>()).prop_map(|(symbol, scale, transfer_scale)| AssetConfig {
        symbol,
        scale,
        transfer_scale,
    })
}

fn market_config() -> impl Strategy<Value = MarketConfig> {
    let grid = (asset(), asset(), number(), number(), amount());
    let rules = (amount(), lots(), rate(), rate(), of(rate()), of(rate()), of(price()));
    (symbol(), grid, rules).prop_map(|(symbol, grid, rules)| MarketConfig {
        symbol,
        base: grid.0,
        quote: grid.1,
        base_units_per_lot: grid.2,
        quote_units_per_tick_lot: grid.3,
        tick_size: grid.4,
        notional_min: rules.0,
        quantity_max: rules.1,
        maker_fee: rules.2,
        taker_fee: rules.3,
        band: rules.4,
        halt_move: rules.5,
        initial_price: rules.6,
    })
}

fn order_ref() -> impl Strategy<Value = OrderRef> {
    prop_oneof![id().prop_map(OrderRef::Id), client_order_id().prop_map(OrderRef::Client)]
}

fn new_order() -> impl Strategy<Value = NewOrder> {
    let kind = (account(), market(), side(), order_type(), time_in_force(), any::<bool>());
    let size = (of(price()), lots(), of(amount()), of(price()), of(lots()));
    (kind, size, self_trade_prevention(), of(client_order_id())).prop_map(
        |(kind, size, self_trade_prevention, client_order_id)| NewOrder {
            account: kind.0,
            market: kind.1,
            side: kind.2,
            order_type: kind.3,
            time_in_force: kind.4,
            post_only: kind.5,
            price: size.0,
            quantity: size.1,
            quote_amount: size.2,
            trigger: size.3,
            display: size.4,
            self_trade_prevention,
            client_order_id,
        },
    )
}

fn amend() -> impl Strategy<Value = AmendOrder> {
    (account(), order_ref(), of(price()), of(lots())).prop_map(
        |(account, order, price, quantity)| AmendOrder { account, order, price, quantity },
    )
}

fn audit_head() -> impl Strategy<Value = AuditHead> {
    (number(), any::<[u8; 32]>()).prop_map(|(rows, head)| AuditHead { rows, head: Hash32(head) })
}

/// Every action; the union must name each variant, which the test of the numbers checks.
pub(crate) fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        settings().prop_map(Action::Genesis),
        Just(Action::Tick),
        limits().prop_map(Action::SetLimits),
        asset_config().prop_map(Action::DefineAsset),
        market_config().prop_map(Action::DefineMarket),
        (market(), market_state())
            .prop_map(|(market, state)| Action::SetMarketState { market, state }),
        account().prop_map(|account| Action::OpenAccount { account }),
        (account(), flags())
            .prop_map(|(account, flags)| Action::SetAccountFlags { account, flags }),
        (account(), asset(), amount(), reference(), any::<bool>()).prop_map(
            |(account, asset, amount, reference, sandbox)| Action::Deposit {
                account,
                asset,
                amount,
                reference,
                sandbox
            }
        ),
        (account(), account(), asset(), amount())
            .prop_map(|(from, to, asset, amount)| Action::Transfer { from, to, asset, amount }),
        (account(), asset(), amount(), reference()).prop_map(
            |(account, asset, amount, destination)| Action::RequestWithdrawal {
                account,
                asset,
                amount,
                destination
            }
        ),
        id().prop_map(|withdrawal| Action::ApproveWithdrawal { withdrawal }),
        id().prop_map(|withdrawal| Action::SendWithdrawal { withdrawal }),
        id().prop_map(|withdrawal| Action::SettleWithdrawal { withdrawal }),
        id().prop_map(|withdrawal| Action::FailWithdrawal { withdrawal }),
        (account(), id())
            .prop_map(|(account, withdrawal)| Action::CancelWithdrawal { account, withdrawal }),
        new_order().prop_map(Action::PlaceOrder),
        (account(), order_ref())
            .prop_map(|(account, order)| Action::CancelOrder { account, order }),
        (account(), of(market()))
            .prop_map(|(account, market)| Action::CancelAll { account, market }),
        amend().prop_map(Action::AmendOrder),
        (market(), id()).prop_map(|(market, order)| Action::ExpireOrder { market, order }),
        (market(), id(), cancel_reason()).prop_map(|(market, order, reason)| Action::CancelNext {
            market,
            order,
            reason
        }),
        (market(), id()).prop_map(|(market, order)| Action::TriggerStop { market, order }),
        market().prop_map(|market| Action::HaltMarket { market }),
        (any::<u64>(), of(any::<u64>().prop_map(Sequence::new)))
            .prop_map(|(incarnation, lost)| Action::Restore { incarnation, lost }),
        audit_head().prop_map(Action::NoteAuditHead),
    ]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let plain = (
        prop_oneof![Just(CommandId::new(0)), id()],
        prop_oneof![Just(0), any::<u64>()],
        time(),
        prop_oneof![Just(0), any::<u128>()],
        any::<bool>(),
    );
    (plain, action()).prop_map(|((id, body_hash, expires_at, trace_id, internal), action)| {
        let origin = if internal { Origin::Internal } else { Origin::Client };
        Command { id, body_hash, expires_at, trace_id, origin, action }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let fill = (number(), number(), account(), price(), lots(), amount(), amount()).prop_map(
        |(trade, maker, maker_account, price, quantity, maker_fee, taker_fee)| {
            Step::Fill(Fill {
                trade_id: TradeId::new(trade),
                maker: OrderId::new(maker),
                maker_account,
                price,
                quantity,
                maker_fee,
                taker_fee,
            })
        },
    );
    let cancelled = (number(), lots()).prop_map(|(maker, remaining)| Step::MakerCancelled {
        maker: OrderId::new(maker),
        remaining,
    });
    prop_oneof![4 => fill, 1 => cancelled]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        Just(Ending::Filled),
        Just(Ending::Rests),
        Just(Ending::Waits),
        cancel_reason().prop_map(Ending::Cancelled)
    ]
}

fn placed() -> impl Strategy<Value = PlacedOrder> {
    (number(), of(price()), amount(), vec(step(), 0..6), ending()).prop_map(
        |(order_id, limit, hold, steps, ending)| PlacedOrder {
            order_id: OrderId::new(order_id),
            limit,
            hold,
            steps,
            ending,
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        select(Reject::ALL).prop_map(Event::Rejected),
        Just(Event::Done),
        placed().prop_map(Event::OrderPlaced),
        (market(), id(), cancel_reason())
            .prop_map(|(market, order, reason)| Event::OrderCancelled { market, order, reason }),
        Just(Event::CancelRemembered),
        (vec((market(), id()), 0..6), any::<bool>())
            .prop_map(|(orders, more)| Event::OrdersCancelled { orders, more }),
        (market(), id(), lots()).prop_map(|(market, order, quantity)| Event::OrderReduced {
            market,
            order,
            quantity
        }),
        (market(), id(), lots(), placed()).prop_map(|(market, order, quantity, placed)| {
            Event::OrderReplaced { market, order, quantity, placed }
        }),
        (market(), id(), placed()).prop_map(|(market, order, placed)| Event::StopTriggered {
            market,
            order,
            placed
        }),
    ]
}

pub(crate) fn batch(entries_max: usize) -> impl Strategy<Value = Batch> {
    let entry = (command(), event()).prop_map(|(command, event)| Entry { command, event });
    (sequence(), time(), any::<u64>(), number(), vec(entry, 0..=entries_max)).prop_map(
        |(sequence, time, incarnation, epoch, entries)| Batch {
            sequence,
            time,
            incarnation,
            epoch,
            rules: crate::RULES,
            entries,
        },
    )
}

fn order_record() -> impl Strategy<Value = OrderRecord> {
    let who = (id(), number(), market(), account(), side(), order_type());
    let how = (time_in_force(), any::<bool>(), self_trade_prevention(), of(price()));
    let size = (lots(), lots(), amount(), lots(), of(lots()), of(price()), any::<bool>());
    let rest = (amount(), of(client_order_id()), any::<u64>(), time(), sequence(), number());
    (who, how, size, rest).prop_map(|(who, how, size, rest)| OrderRecord {
        id: who.0,
        order_id: OrderId::new(who.1),
        market: who.2,
        account: who.3,
        side: who.4,
        order_type: who.5,
        time_in_force: how.0,
        post_only: how.1,
        self_trade_prevention: how.2,
        price: how.3,
        quantity: size.0,
        filled: size.1,
        filled_notional: size.2,
        visible: size.3,
        display: size.4,
        trigger: size.5,
        waits: size.6,
        hold: rest.0,
        client_order_id: rest.1,
        body_hash: rest.2,
        created_at: rest.3,
        created_in: rest.4,
        arrival: rest.5,
    })
}

fn withdrawal_state() -> impl Strategy<Value = WithdrawalState> {
    use WithdrawalState::*;
    select(vec![Requested, Approved, Sending, Settled, Failed, Cancelled])
}

fn market_record() -> impl Strategy<Value = Record> {
    let ids = (number(), number(), number());
    (market_config(), market_state(), ids, of(price()), any::<bool>()).prop_map(
        |(config, state, ids, last_price, halt_due)| Record::Market {
            config,
            state,
            last_order_id: OrderId::new(ids.0),
            last_trade_id: TradeId::new(ids.1),
            update_id: ids.2,
            last_price,
            halt_due,
        },
    )
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (sequence(), time(), of(settings()), limits(), number()).prop_map(
            |(sequence, time, settings, limits, arrivals)| Record::Head {
                sequence,
                time,
                settings,
                limits,
                arrivals
            }
        ),
        (asset_config(), any::<i128>())
            .prop_map(|(config, outside)| Record::Asset { config, outside }),
        market_record(),
        (market(), number(), wide(), wide(), of(price())).prop_map(
            |(market, second, tick_lots, lots, reference_before)| Record::TradeSecond {
                market,
                second,
                tick_lots,
                lots,
                reference_before
            }
        ),
        (account(), flags(), number(), number(), any::<u32>()).prop_map(
            |(id, flags, account_sequence, rate_second, rate_count)| Record::Account {
                id,
                flags,
                account_sequence,
                rate_second,
                rate_count
            }
        ),
        (asset(), amount(), amount()).prop_map(|(asset, available, held)| Record::Balance {
            asset,
            balance: Balance { available, held }
        }),
        order_record().prop_map(Record::Order),
        (account(), client_order_id(), id(), any::<u64>(), time()).prop_map(
            |(account, client_order_id, order, body_hash, closed_at)| Record::ClosedClientId {
                account,
                client_order_id,
                order,
                body_hash,
                closed_at
            }
        ),
        (id(), any::<u64>(), sequence(), time()).prop_map(|(id, body_hash, outcome, time)| {
            Record::Known { id, body_hash, outcome, time }
        }),
        (id(), account(), time()).prop_map(|(order, account, expires_at)| {
            Record::RememberedCancel { order, account, expires_at }
        }),
        (account(), of(market()), number()).prop_map(|(account, market, before_arrival)| {
            Record::Sweep { account, market, before_arrival }
        }),
        (id(), account(), asset(), amount(), withdrawal_state()).prop_map(
            |(id, account, asset, amount, state)| Record::Withdrawal {
                id,
                account,
                asset,
                amount,
                state
            }
        ),
        reference().prop_map(Record::DepositReference),
        number().prop_map(|records| Record::End { records }),
        audit_head().prop_map(Record::AuditHead),
    ]
}
