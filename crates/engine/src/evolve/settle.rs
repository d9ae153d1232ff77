//! An order's steps: each fill is settled when it happens.

use book::{Resting, Side};
use ledger::{AccountIndex, Leg};
use units::{AccountId, Amount, AssetId, CommandId, OrderId, QuantityLots, SignedAmount, TradeId};

use super::trading::Trading;
use crate::command::CancelReason;
use crate::config::MarketState;
use crate::event::{Fill, Step};
use crate::observe::{LedgerEntry, Observer, OrderStatus, Posting, Trade, TransferKind};
use crate::state::Market;

/// The order that takes.
#[derive(Clone, Copy)]
pub(super) struct TakerOrder {
    pub(super) id: CommandId,
    pub(super) order_id: OrderId,
    pub(super) account: AccountIndex,
    pub(super) side: Side,
}

/// What an order's steps came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Traded {
    pub(super) filled: QuantityLots,
    pub(super) notional: Amount,
    /// What they took of the hold.
    pub(super) spent: Amount,
}

/// The order that rests, as a fill leaves it.
#[derive(Clone, Copy)]
struct MakerOrder {
    id: CommandId,
    account: AccountIndex,
    slot: u32,
    /// What it showed before the fill.
    visible: QuantityLots,
    remaining: QuantityLots,
}

impl<O: Observer> Trading<'_, O> {
    #[inline]
    pub(super) fn take_steps(&mut self, taker: TakerOrder, steps: &[Step]) -> Traded {
        if steps.is_empty() { Traded::default() } else { self.take(taker, steps) }
    }

    fn take(&mut self, taker: TakerOrder, steps: &[Step]) -> Traded {
        let fees = self.ledger.find(AccountId::FEES);
        let fees = fees.expect("the fees' account is opened at genesis");
        let mut traded = Traded::default();
        for step in steps {
            match step {
                Step::Fill(fill) => self.fill(taker, fees, fill, &mut traded),
                Step::MakerCancelled { maker, remaining } => {
                    let slot = self.head(taker.side.opposite(), *maker).key;
                    let order = self.market.orders.get(slot);
                    let found = order.remaining();
                    assert_eq!(found, *remaining, "the event's remainder is the order's");
                    let id = order.id;
                    self.forget_id(id, slot);
                    self.close(slot, CancelReason::SelfTrade);
                }
            }
        }
        if !traded.filled.is_zero() {
            self.market.note_reference();
            let (base, quote) = (self.market.config.base, self.market.config.quote);
            self.count_balance(fees, base);
            self.count_balance(fees, quote);
        }
        traded
    }

    /// Finds the order at the head of a side, which must be the one that the event names: price-time
    /// priority is asserted here, on every fill.
    #[inline]
    fn head(&self, side: Side, maker: OrderId) -> Resting {
        let head = self.market.book.head(side).expect("a step meets an order");
        let found = self.market.orders.get(head.key).order_id;
        assert_eq!(found, maker, "the first in price-time priority trades");
        head
    }

    #[inline]
    fn fill(&mut self, taker: TakerOrder, fees: AccountIndex, fill: &Fill, traded: &mut Traded) {
        let head = self.head(taker.side.opposite(), fill.maker);
        let Market { orders, config, .. } = &mut *self.market;
        let order = orders.get_mut(head.key);
        assert_eq!(order.price, fill.price, "a trade is at the maker's price");
        let filled = order.filled.checked_add(fill.quantity).expect("fills fit the order");
        assert!(filled <= order.quantity, "an order is filled up to its quantity");
        let notional = config.notional(fill.price, fill.quantity);
        let notional = notional.expect("a fill's notional is within its order's");
        let base = config.base_amount(fill.quantity);
        let base = base.expect("a fill's quantity is within its order's");
        let add = |to: Amount, by| to.checked_add(by).expect("sums fit 128 bits");
        order.filled = filled;
        order.filled_notional = add(order.filled_notional, notional);
        let maker = MakerOrder {
            id: order.id,
            account: order.account,
            slot: head.key,
            visible: head.visible,
            remaining: order.remaining(),
        };
        let (base_asset, quote_asset) = (config.base, config.quote);
        let (from_maker, from_taker) = match taker.side {
            Side::Buy => ((base_asset, base), (quote_asset, notional)),
            Side::Sell => ((quote_asset, notional), (base_asset, base)),
        };
        let leg = |(asset, amount), fee| Leg { asset, amount, fee };
        let given = leg(from_maker, fill.taker_fee);
        let paid = leg(from_taker, fill.maker_fee);

        self.note_trade(fill);
        self.ledger.settle((maker.account, given), (taker.account, paid), fees);
        let taker_sequence = self.ledger.count_changes(taker.account, 1);
        // The trade, the order, its two balances.
        let maker_sequence = self.ledger.count_changes(maker.account, 4);
        if O::FOLLOWS {
            let (given, paid) = ((maker.account, given), (taker.account, paid));
            // Of the base first.
            let legs = if taker.side == Side::Buy { [given, paid] } else { [paid, given] };
            self.tell_settled(fill.trade_id, fees, legs);
            self.tell_trade(taker, maker, fill, notional, (taker_sequence, maker_sequence));
        }
        self.advance_maker(maker, fill.quantity, maker_sequence.saturating_add(1));
        self.tell_balance(maker.account, base_asset, maker_sequence.saturating_add(2));
        self.tell_balance(maker.account, quote_asset, maker_sequence.saturating_add(3));

        let filled = traded.filled.checked_add(fill.quantity);
        traded.filled = filled.expect("fills are parts of one quantity");
        traded.notional = add(traded.notional, notional);
        traded.spent = add(traded.spent, paid.amount);
    }

    /// The market remembers a trade: its id, its price, and whether the reference has moved too far. The reference itself
    /// is needed after the last trade of an order, unless a halt depends on it.
    #[inline]
    fn note_trade(&mut self, fill: &Fill) {
        let market = &mut *self.market;
        assert_eq!(fill.trade_id, market.last_trade_id.next(), "trade ids have no gaps");
        let before = market.reference;
        market.last_trade_id = fill.trade_id;
        market.last_price = Some(fill.price);
        market.trades.add(self.time, fill.price, fill.quantity, before);
        if let Some(limit) = market.config.halt_move {
            market.note_reference();
            let moved = market.trades.moved_beyond(market.reference, limit);
            market.halt_due |= moved && market.state == MarketState::Open;
        }
    }

    /// Takes a fill off the maker's place in the book: it shows less, shows its next slice, or is gone.
    #[inline]
    fn advance_maker(&mut self, maker: MakerOrder, quantity: QuantityLots, account_sequence: u64) {
        let MakerOrder { id, slot, visible, remaining, .. } = maker;
        let Market { book, orders, .. } = &mut *self.market;
        let level = if quantity < visible {
            book.reduce(slot, quantity)
        } else if !remaining.is_zero() {
            assert_eq!(quantity, visible, "no more is filled than is visible");
            let display = orders.get(slot).extra().display;
            let display = display.expect("only an iceberg hides a part");
            book.refresh(slot, display.min(remaining))
        } else {
            self.forget_id(id, slot);
            self.remove(slot, OrderStatus::Filled, None, account_sequence);
            return;
        };
        self.tell_level(level);
        self.tell_open_order(slot, account_sequence);
    }

    /// Tells of the postings of a trade, each leg with who gives it; those of nothing are left out.
    fn tell_settled(&mut self, trade: TradeId, fees: AccountIndex, legs: [(AccountIndex, Leg); 2]) {
        let mut postings = [Posting {
            account: AccountId::OUTSIDE,
            asset: AssetId::default(),
            amount: SignedAmount::default(),
        }; 6];
        let mut places = postings.iter_mut();
        let mut count = 0_usize;
        let [(first, _), (second, _)] = legs;
        for ((payer, leg), payee) in legs.into_iter().zip([second, first]) {
            let out = leg.amount.signed().checked_neg().expect("an amount has a negative");
            let parts = [(payer, out), (payee, leg.net().signed()), (fees, leg.fee.signed())];
            for (account, amount) in parts.into_iter().filter(|(_, amount)| *amount != 0) {
                let account = self.ledger.id(account);
                let place = places.next().expect("two legs have six parts");
                *place = Posting { account, asset: leg.asset, amount };
                count = count.saturating_add(1);
            }
        }
        let (postings, _) = postings.split_at(count);
        self.observer.entry(&LedgerEntry {
            kind: TransferKind::Trade,
            reference: self.reference,
            trade: Some((self.market.id, trade)),
            time: self.time,
            postings,
        });
    }

    fn tell_trade(
        &mut self,
        taker: TakerOrder,
        maker: MakerOrder,
        fill: &Fill,
        notional: Amount,
        (taker_account_sequence, maker_account_sequence): (u64, u64),
    ) {
        let config = &self.market.config;
        self.observer.trade(&Trade {
            market: self.market.id,
            trade_id: fill.trade_id,
            sequence: self.sequence,
            time: self.time,
            price: fill.price,
            quantity: fill.quantity,
            notional,
            taker_side: taker.side,
            taker_order: taker.id,
            taker_order_id: taker.order_id,
            taker_account: self.ledger.id(taker.account),
            taker_fee: fill.taker_fee,
            maker_order: maker.id,
            maker_order_id: fill.maker,
            maker_account: fill.maker_account,
            maker_fee: fill.maker_fee,
            // Each side's fee is of what it receives.
            fee_assets: (config.pays(taker.side.opposite()), config.pays(taker.side)),
            taker_account_sequence,
            maker_account_sequence,
        });
    }
}
