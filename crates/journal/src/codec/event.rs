//! The bytes of events.

use engine::{Ending, Event, Fill, PlacedOrder, Reject, Step};
use units::{CommandId, MarketId, PriceTicks, TradeId};

use super::{BadBytes, Code, Reader, Writer, fields, variants};

variants!(Event, "an unknown event" {
    1 => Rejected(reject),
    2 => Done,
    3 => OrderPlaced(placed),
    4 => OrderCancelled { market, order, reason },
    5 => CancelRemembered,
    6 => OrdersCancelled { orders, more },
    7 => OrderReduced { market, order, quantity },
    8 => OrderReplaced { market, order, quantity, placed },
    9 => StopTriggered { market, order, placed },
});

variants!(Ending, "an unknown ending" {
    0 => Filled,
    1 => Rests,
    2 => Waits,
    3 => Cancelled(reason),
});

impl Code for Reject {
    fn put(&self, w: &mut Writer) {
        w.varint(u64::from(self.number()));
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let number = u16::try_from(r.varint()?).ok();
        number.and_then(Self::from_number).ok_or_else(|| r.bad("an unknown rejection"))
    }
}

/// One order of a cancel-all.
#[derive(Clone, Copy)]
struct Cancelled {
    market: MarketId,
    order: CommandId,
}

fields!(Cancelled { market, order });

/// A market id takes a byte at least, and an order's id sixteen.
const CANCELLED_BYTES_MIN: usize = 17;

/// Items that memory is taken for at once; a longer list grows as its bytes are read.
const ITEMS_AT_ONCE: usize = 1_024;

impl Code for Vec<(MarketId, CommandId)> {
    fn put(&self, w: &mut Writer) {
        w.varint(u64::try_from(self.len()).expect("a length fits 64 bits"));
        for &(market, order) in self {
            Cancelled { market, order }.put(w);
        }
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let count = r.count(CANCELLED_BYTES_MIN)?;
        let mut orders = Self::with_capacity(count.min(ITEMS_AT_ONCE));
        for _ in 0..count {
            let Cancelled { market, order } = Code::get(r)?;
            orders.push((market, order));
        }
        Ok(orders)
    }
}

/// A step takes its kind, an id and a quantity at least.
const STEP_BYTES_MIN: usize = 3;

impl Code for PlacedOrder {
    fn put(&self, w: &mut Writer) {
        let Self { order_id, limit, hold, steps, ending } = self;
        order_id.put(w);
        limit.put(w);
        hold.put(w);
        ending.put(w);
        w.varint(u64::try_from(steps.len()).expect("a length fits 64 bits"));
        let mut near = Near::new(*limit);
        for step in steps {
            near.put(step, w);
        }
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let order_id = Code::get(r)?;
        let limit = Code::get(r)?;
        let hold = Code::get(r)?;
        let ending = Code::get(r)?;
        let count = r.count(STEP_BYTES_MIN)?;
        let mut steps = Vec::with_capacity(count.min(ITEMS_AT_ONCE));
        let mut near = Near::new(limit);
        for _ in 0..count {
            steps.push(near.get(r)?);
        }
        Ok(Self { order_id, limit, hold, steps, ending })
    }
}

/// What the next fill is probably close to: the last one.
struct Near {
    trade: u64,
    price: u64,
}

const FILL: u8 = 0;
const MAKER_CANCELLED: u8 = 1;

impl Near {
    fn new(limit: Option<PriceTicks>) -> Self {
        Self { trade: 0, price: limit.map_or(0, PriceTicks::get) }
    }

    fn put(&mut self, step: &Step, w: &mut Writer) {
        match step {
            Step::Fill(fill) => {
                let Fill { trade_id, maker, maker_account, price, quantity, maker_fee, taker_fee } =
                    fill;
                w.u8(FILL);
                w.delta(self.trade, trade_id.get());
                w.delta(self.price, price.get());
                self.trade = trade_id.get();
                self.price = price.get();
                maker.put(w);
                maker_account.put(w);
                quantity.put(w);
                maker_fee.put(w);
                taker_fee.put(w);
            }
            Step::MakerCancelled { maker, remaining } => {
                w.u8(MAKER_CANCELLED);
                maker.put(w);
                remaining.put(w);
            }
        }
    }

    fn get(&mut self, r: &mut Reader<'_>) -> Result<Step, BadBytes> {
        match r.u8()? {
            FILL => {
                self.trade = r.delta(self.trade)?;
                self.price = r.delta(self.price)?;
                let price = PriceTicks::new(self.price).ok_or_else(|| r.bad("a price of zero"))?;
                Ok(Step::Fill(Fill {
                    trade_id: TradeId::new(self.trade),
                    price,
                    maker: Code::get(r)?,
                    maker_account: Code::get(r)?,
                    quantity: Code::get(r)?,
                    maker_fee: Code::get(r)?,
                    taker_fee: Code::get(r)?,
                }))
            }
            MAKER_CANCELLED => {
                Ok(Step::MakerCancelled { maker: Code::get(r)?, remaining: Code::get(r)? })
            }
            _ => Err(r.bad("an unknown step")),
        }
    }
}
