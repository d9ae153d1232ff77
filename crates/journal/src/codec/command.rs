//! The bytes of commands.

use engine::{
    Action, AmendOrder, AuditHead, CancelReason, ClientOrderId, Command, NewOrder, OrderRef,
    OrderType, Origin, SelfTradePrevention, Side, TimeInForce,
};
use units::{CommandId, Time};

use super::{BadBytes, Code, Reader, Writer, fields, variants};

variants!(Action, "an unknown action" {
    1 => Genesis(settings),
    2 => Tick,
    3 => SetLimits(limits),
    4 => DefineAsset(config),
    5 => DefineMarket(config),
    6 => SetMarketState { market, state },
    7 => OpenAccount { account },
    8 => SetAccountFlags { account, flags },
    9 => Deposit { account, asset, amount, reference, sandbox },
    10 => Transfer { from, to, asset, amount },
    11 => RequestWithdrawal { account, asset, amount, destination },
    12 => ApproveWithdrawal { withdrawal },
    13 => SendWithdrawal { withdrawal },
    14 => SettleWithdrawal { withdrawal },
    15 => FailWithdrawal { withdrawal },
    16 => CancelWithdrawal { account, withdrawal },
    17 => PlaceOrder(order),
    18 => CancelOrder { account, order },
    19 => CancelAll { account, market },
    20 => AmendOrder(amend),
    21 => ExpireOrder { market, order },
    22 => CancelNext { market, order, reason },
    23 => TriggerStop { market, order },
    24 => HaltMarket { market },
    25 => Restore { incarnation, lost },
    26 => NoteAuditHead(head),
});

variants!(OrderRef, "an unknown way to name an order" {
    0 => Id(id),
    1 => Client(id),
});

variants!(OrderType, "an unknown order type" {
    0 => Limit,
    1 => Market,
    2 => StopLimit,
    3 => StopMarket,
});

variants!(TimeInForce, "an unknown time in force" {
    0 => Gtc,
    1 => Ioc,
    2 => Fok,
    3 => Gtd(until),
});

variants!(SelfTradePrevention, "an unknown self-trade prevention" {
    0 => CancelNewest,
    1 => CancelOldest,
    2 => CancelBoth,
    3 => Allow,
});

variants!(Side, "an unknown side" {
    0 => Buy,
    1 => Sell,
});

variants!(CancelReason, "an unknown reason" {
    0 => Requested,
    1 => CancelledBeforeArrival,
    2 => ImmediateOrCancel,
    3 => FillOrKill,
    4 => NoLiquidity,
    5 => Band,
    6 => QuoteAmountSpent,
    7 => SelfTrade,
    8 => TooManySteps,
    9 => Account,
    10 => Expired,
    11 => TriggerRefused,
});

fields!(AmendOrder { account, order, price, quantity });
fields!(AuditHead { rows, head });

impl Code for ClientOrderId {
    fn put(&self, w: &mut Writer) {
        let text = self.as_str();
        w.varint(u64::try_from(text.len()).expect("a length fits 64 bits"));
        w.raw(text.as_bytes());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let text = r.text()?;
        Self::new(text).ok_or_else(|| r.bad("not a client order id"))
    }
}

/// Which of a new order's optional fields are there, one bit each, in the byte in front.
mod present {
    pub(super) const SELL: u8 = 1;
    pub(super) const POST_ONLY: u8 = 1 << 1;
    pub(super) const PRICE: u8 = 1 << 2;
    pub(super) const QUOTE_AMOUNT: u8 = 1 << 3;
    pub(super) const TRIGGER: u8 = 1 << 4;
    pub(super) const DISPLAY: u8 = 1 << 5;
    pub(super) const CLIENT_ORDER_ID: u8 = 1 << 6;
    /// A limit order, good till cancelled, that cancels the newest: by far the most, so these three take no byte.
    pub(super) const PLAIN: u8 = 1 << 7;
}

fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn is_plain(order: &NewOrder) -> bool {
    order.order_type == OrderType::Limit
        && order.time_in_force == TimeInForce::Gtc
        && order.self_trade_prevention == SelfTradePrevention::CancelNewest
}

impl Code for NewOrder {
    fn put(&self, w: &mut Writer) {
        let plain = is_plain(self);
        w.u8(bit(self.side == Side::Sell, present::SELL)
            | bit(self.post_only, present::POST_ONLY)
            | bit(self.price.is_some(), present::PRICE)
            | bit(self.quote_amount.is_some(), present::QUOTE_AMOUNT)
            | bit(self.trigger.is_some(), present::TRIGGER)
            | bit(self.display.is_some(), present::DISPLAY)
            | bit(self.client_order_id.is_some(), present::CLIENT_ORDER_ID)
            | bit(plain, present::PLAIN));
        if !plain {
            self.order_type.put(w);
            self.time_in_force.put(w);
            self.self_trade_prevention.put(w);
        }
        self.account.put(w);
        self.market.put(w);
        self.quantity.put(w);
        put_some(self.price.as_ref(), w);
        put_some(self.quote_amount.as_ref(), w);
        put_some(self.trigger.as_ref(), w);
        put_some(self.display.as_ref(), w);
        put_some(self.client_order_id.as_ref(), w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let bits = r.u8()?;
        let has = |bit: u8| bits & bit != 0;
        let plain = has(present::PLAIN);
        let (order_type, time_in_force, self_trade_prevention) = if plain {
            (OrderType::Limit, TimeInForce::Gtc, SelfTradePrevention::CancelNewest)
        } else {
            (Code::get(r)?, Code::get(r)?, Code::get(r)?)
        };
        let account = Code::get(r)?;
        let market = Code::get(r)?;
        let quantity = Code::get(r)?;
        let order = Self {
            account,
            market,
            side: if has(present::SELL) { Side::Sell } else { Side::Buy },
            order_type,
            time_in_force,
            post_only: has(present::POST_ONLY),
            price: get_some(has(present::PRICE), r)?,
            quantity,
            quote_amount: get_some(has(present::QUOTE_AMOUNT), r)?,
            trigger: get_some(has(present::TRIGGER), r)?,
            display: get_some(has(present::DISPLAY), r)?,
            self_trade_prevention,
            client_order_id: get_some(has(present::CLIENT_ORDER_ID), r)?,
        };
        // One encoding alone: what is plain is said to be plain.
        if is_plain(&order) != plain { Err(r.bad("a plain order at length")) } else { Ok(order) }
    }
}

/// Writes an optional field whose presence a bit tells.
pub(super) fn put_some<T: Code>(value: Option<&T>, w: &mut Writer) {
    if let Some(value) = value {
        value.put(w);
    }
}

/// Reads an optional field whose presence a bit tells.
pub(super) fn get_some<T: Code>(present: bool, r: &mut Reader<'_>) -> Result<Option<T>, BadBytes> {
    if present { T::get(r).map(Some) } else { Ok(None) }
}

/// What a command's first byte says.
mod head {
    /// From inside.
    pub(super) const INTERNAL: u8 = 1;
    /// It has a trace.
    pub(super) const TRACE: u8 = 1 << 1;
    /// It never expires.
    pub(super) const FOR_EVER: u8 = 1 << 2;
    /// Neither id nor hash, as internal commands.
    pub(super) const NAMELESS: u8 = 1 << 3;
    pub(super) const ALL: u8 = 0b1111;
}

/// Writes a command; its expiry as the distance from `base`.
pub(crate) fn put_command(command: &Command, base: Time, w: &mut Writer) {
    let Command { id, body_hash, expires_at, trace_id, origin, action } = command;
    let nameless = id.get() == 0 && *body_hash == 0;
    let for_ever = *expires_at == Time::MAX;
    w.u8(bit(*origin == Origin::Internal, head::INTERNAL)
        | bit(*trace_id != 0, head::TRACE)
        | bit(for_ever, head::FOR_EVER)
        | bit(nameless, head::NAMELESS));
    if !nameless {
        id.put(w);
        w.raw(&body_hash.to_be_bytes());
    }
    if !for_ever {
        w.delta(base.micros(), expires_at.micros());
    }
    if *trace_id != 0 {
        w.raw(&trace_id.to_be_bytes());
    }
    action.put(w);
}

/// Reads what [`put_command`] wrote.
pub(crate) fn get_command(base: Time, r: &mut Reader<'_>) -> Result<Command, BadBytes> {
    let bits = r.u8()?;
    if bits & !head::ALL != 0 {
        return Err(r.bad("an unknown bit of a command"));
    }
    let has = |bit: u8| bits & bit != 0;
    let (id, body_hash) = if has(head::NAMELESS) {
        (CommandId::new(0), 0)
    } else {
        let id: CommandId = Code::get(r)?;
        let hash = u64::from_be_bytes(r.array()?);
        if id.get() == 0 && hash == 0 {
            return Err(r.bad("a nameless command at length"));
        }
        (id, hash)
    };
    let expires_at = if has(head::FOR_EVER) {
        Time::MAX
    } else {
        let time = Time::from_micros(r.delta(base.micros())?);
        if time == Time::MAX {
            return Err(r.bad("an eternal command at length"));
        }
        time
    };
    let trace_id = if has(head::TRACE) { u128::from_be_bytes(r.array()?) } else { 0 };
    if has(head::TRACE) && trace_id == 0 {
        return Err(r.bad("a trace without an id"));
    }
    let origin = if has(head::INTERNAL) { Origin::Internal } else { Origin::Client };
    Ok(Command { id, body_hash, expires_at, trace_id, origin, action: Code::get(r)? })
}
