//! Commands as a server would make them, for what no server would send: in another order, for another journal, too late.

use e2e::{Psql, Random};
use engine::{
    Action, Command, MarketState, NewOrder, OrderRef, OrderType, Origin, SelfTradePrevention, Side,
    TimeInForce,
};
use journal::Message;
use units::{AccountId, CommandId, MarketId, PriceTicks, QuantityLots, Sequence, Time};

/// How long a command lives, in microseconds of journal time, as those of a server.
const TO_LIVE_MICROS: u64 = 15_000_000;

/// Makes commands for a journal as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) incarnation: u64,
    pub(crate) seen: u64,
    pub(crate) time: Time,
}

impl Maker {
    /// Reads where the journal stands.
    pub(crate) fn read(psql: &Psql) -> Self {
        let row = psql.value(
            "SELECT incarnation, sequence, time FROM journal ORDER BY sequence DESC LIMIT 1",
        );
        let mut columns = row.split('|');
        let mut next = || columns.next().unwrap_or_default().parse::<i64>().unwrap_or_default();
        Self {
            incarnation: next().cast_unsigned(),
            seen: next().unsigned_abs(),
            time: Time::from_micros(next().unsigned_abs()),
        }
    }

    fn message(&self, id: u128, action: Action) -> Vec<u8> {
        let command = Command {
            id: CommandId::new(id),
            body_hash: 1,
            expires_at: self.time.plus_micros(TO_LIVE_MICROS),
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        let seen = Sequence::new(self.seen);
        Message { incarnation: self.incarnation, seen, command }.encode()
    }

    /// Makes a limit order that stands until it is cancelled, at a price in ticks.
    pub(crate) fn place(
        &self,
        id: u128,
        account: u64,
        market: u32,
        ticks: u64,
        lots: u64,
    ) -> Vec<u8> {
        let order = NewOrder {
            account: AccountId::new(account),
            market: MarketId::new(market.try_into().expect("there are few markets")),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            post_only: false,
            price: PriceTicks::new(ticks),
            quantity: QuantityLots::new(lots),
            quote_amount: None,
            trigger: None,
            display: None,
            self_trade_prevention: SelfTradePrevention::CancelNewest,
            client_order_id: None,
        };
        self.message(id, Action::PlaceOrder(order))
    }

    /// Makes what halts a market, or opens it again.
    pub(crate) fn market(&self, id: u128, market: u32, halted: bool) -> Vec<u8> {
        let market = MarketId::new(market.try_into().expect("there are few markets"));
        let state = if halted { MarketState::Halted } else { MarketState::Open };
        self.message(id, Action::SetMarketState { market, state })
    }

    /// Makes a cancellation.
    pub(crate) fn cancel(&self, id: u128, account: u64, order: u128) -> Vec<u8> {
        let order = OrderRef::Id(CommandId::new(order));
        self.message(id, Action::CancelOrder { account: AccountId::new(account), order })
    }
}

/// Returns a new id, as a UUID of version 8, and its text.
pub(crate) fn id(random: &mut Random) -> (u128, String) {
    let raw = (u128::from(random.next()) << 64) | u128::from(random.next());
    let raw = raw & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{raw:032x}");
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    (raw, text)
}
