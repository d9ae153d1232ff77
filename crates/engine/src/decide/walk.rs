//! An order's way through the book: who it would trade with, step by step. Nothing is changed.

use std::collections::VecDeque;

use book::Side;
use ledger::AccountIndex;
use units::{Amount, PriceTicks, QuantityLots, TradeId};

use crate::command::SelfTradePrevention;
use crate::event::{Fill, Step};
use crate::state::{Market, Order, State};

/// Room for the steps of most orders, so that their list is made once.
const STEPS_LIKELY: usize = 8;

/// An order that looks for others to trade with.
pub(super) struct Taker<'a> {
    pub(super) state: &'a State,
    pub(super) market: &'a Market,
    pub(super) account: AccountIndex,
    pub(super) side: Side,
    /// The worst price it trades at; `None`: any.
    pub(super) limit: Option<PriceTicks>,
    /// The most it trades; `None`: as much as the quote amount allows.
    pub(super) quantity: Option<QuantityLots>,
    /// The most it spends or earns; `None`: any.
    pub(super) quote_amount: Option<Amount>,
    pub(super) self_trade_prevention: SelfTradePrevention,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The quantity is filled.
    Filled,
    /// The quote amount does not buy another lot.
    QuoteSpent,
    /// Nothing is left on the other side.
    BookEmpty,
    /// What is left is beyond the limit.
    Limit,
    /// It met an order of its own account.
    SelfTrade,
    /// It made as many steps as one command may.
    TooManySteps,
}

/// What an order would do.
pub(super) struct Walk {
    pub(super) steps: Vec<Step>,
    pub(super) filled: QuantityLots,
    pub(super) notional: Amount,
    pub(super) stop: Stop,
    last_trade_id: TradeId,
}

/// A maker as the walk sees it: an iceberg's later slices come back to the end of the queue.
struct Maker<'a> {
    order: &'a Order,
    visible: u64,
    hidden: u64,
    display: u64,
}

impl<'a> Taker<'a> {
    /// Walks the book in price-time priority until something stops it.
    pub(super) fn walk(&self) -> Walk {
        let mut walk = Walk {
            steps: Vec::with_capacity(STEPS_LIKELY),
            filled: QuantityLots::ZERO,
            notional: Amount::ZERO,
            stop: Stop::BookEmpty,
            last_trade_id: self.market.last_trade_id,
        };
        for (price, queue) in self.market.book.queues(self.side.opposite()) {
            if self.limit.is_some_and(|limit| !self.side.accepts(limit, price)) {
                walk.stop = Stop::Limit;
                break;
            }
            let mut again = VecDeque::new();
            let mut queue = queue.map(|resting| self.maker(resting));
            while let Some(maker) = queue.next().or_else(|| again.pop_front()) {
                if let Err(stop) = self.meet(&mut walk, price, maker, &mut again) {
                    walk.stop = stop;
                    return walk;
                }
            }
        }
        walk
    }

    /// Meets one maker; `Err` says why the walk ends.
    #[inline]
    fn meet(
        &self,
        walk: &mut Walk,
        price: PriceTicks,
        maker: Maker<'a>,
        again: &mut VecDeque<Maker<'a>>,
    ) -> Result<(), Stop> {
        let wanted = self.wanted(walk, price)?;
        let steps_max = usize::try_from(self.state.limits().steps_max).unwrap_or(usize::MAX);
        if walk.steps.len() >= steps_max {
            return Err(Stop::TooManySteps);
        }
        let order = maker.order;
        let own = order.account == self.account;
        match self.self_trade_prevention {
            SelfTradePrevention::CancelNewest if own => return Err(Stop::SelfTrade),
            SelfTradePrevention::CancelOldest | SelfTradePrevention::CancelBoth if own => {
                let remaining = maker.visible.checked_add(maker.hidden);
                let remaining = remaining.expect("visible and hidden are parts of one quantity");
                let remaining = QuantityLots::new(remaining);
                walk.steps.push(Step::MakerCancelled { maker: order.order_id, remaining });
                let both = self.self_trade_prevention == SelfTradePrevention::CancelBoth;
                return if both { Err(Stop::SelfTrade) } else { Ok(()) };
            }
            _ => {}
        }
        let quantity = QuantityLots::new(wanted.min(maker.visible));
        self.fill(walk, price, quantity, order);
        if maker.visible == quantity.get() && maker.hidden > 0 {
            let visible = maker.display.min(maker.hidden);
            let hidden = maker.hidden.checked_sub(visible).expect("a slice is part of the rest");
            again.push_back(Maker { visible, hidden, ..maker });
        }
        // Said now rather than at the next maker: there may be none.
        if self.quantity == Some(walk.filled) {
            Err(Stop::Filled)
        } else if quantity.get() < maker.visible || self.quote_amount == Some(walk.notional) {
            // The maker has more, and not a lot of it can be paid for; nobody behind it may be asked.
            Err(Stop::QuoteSpent)
        } else {
            Ok(())
        }
    }

    /// How much more it takes at this price; `Err` where it takes nothing.
    #[inline]
    fn wanted(&self, walk: &Walk, price: PriceTicks) -> Result<u64, Stop> {
        let by_quantity = match self.quantity {
            Some(quantity) => {
                let left = quantity.checked_sub(walk.filled).expect("no more is filled than asked");
                left.get()
            }
            None => u64::MAX,
        };
        if by_quantity == 0 {
            return Err(Stop::Filled);
        }
        let Some(quote_amount) = self.quote_amount else { return Ok(by_quantity) };
        let left = quote_amount.checked_sub(walk.notional).expect("no more is spent than given");
        let unit = u128::from(self.market.config.quote_units_per_tick_lot);
        let lot = u128::from(price.get()).checked_mul(unit).expect("64 × 64 bits fit 128 bits");
        let lots = left.get().checked_div(lot).expect("a lot at a price costs something");
        match u64::try_from(lots).unwrap_or(u64::MAX).min(by_quantity) {
            0 => Err(Stop::QuoteSpent),
            wanted => Ok(wanted),
        }
    }

    #[inline]
    fn fill(&self, walk: &mut Walk, price: PriceTicks, quantity: QuantityLots, maker: &Order) {
        let config = &self.market.config;
        let notional = config.notional(price, quantity);
        let notional = notional.expect("a part of a maker's notional is no more than the whole");
        let base = config.base_amount(quantity);
        let base = base.expect("a part of a maker's quantity is no more than the whole");
        let (taker_gets, maker_gets) = match self.side {
            Side::Buy => (base, notional),
            Side::Sell => (notional, base),
        };
        walk.filled = walk.filled.checked_add(quantity).expect("no more is filled than asked");
        walk.notional = walk.notional.checked_add(notional).expect("all notionals fit 128 bits");
        walk.last_trade_id = walk.last_trade_id.next();
        walk.steps.push(Step::Fill(Fill {
            trade_id: walk.last_trade_id,
            maker: maker.order_id,
            maker_account: self.state.ledger.id(maker.account),
            price,
            quantity,
            maker_fee: config.maker_fee.of_rounded_up(maker_gets),
            taker_fee: config.taker_fee.of_rounded_up(taker_gets),
        }));
    }

    #[inline]
    fn maker(&self, resting: book::Resting) -> Maker<'a> {
        let visible = resting.visible.get();
        let order = self.market.orders.get(resting.key);
        let (hidden, display) = match order.extra().display {
            Some(display) => {
                let rest = order.remaining().get().checked_sub(visible);
                (rest.expect("what is visible is part of what remains"), display.get())
            }
            None => (0, 0),
        };
        Maker { order, visible, hidden, display }
    }
}
