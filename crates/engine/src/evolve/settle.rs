//! An order's steps: each fill is settled when it happens.

use book::Side;
use ledger::{AccountIndex, Source};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, OrderId, QuantityLots, SignedAmount, TradeId,
};

use super::Evolver;
use crate::command::CancelReason;
use crate::config::MarketState;
use crate::event::{Fill, Step};
use crate::observe::{LedgerEntry, Observer, OrderStatus, Posting, Trade, TransferKind};

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

/// One side of a fill: who gives what to whom, and what of it is the fee.
struct Leg {
    asset: AssetId,
    payer: AccountIndex,
    payee: AccountIndex,
    amount: Amount,
    fee: Amount,
}

impl Leg {
    /// What the payee gets.
    fn net(&self) -> Amount {
        self.amount.checked_sub(self.fee).expect("a fee is part of what is received")
    }
}

impl<O: Observer> Evolver<'_, O> {
    pub(super) fn take_steps(
        &mut self,
        market: MarketId,
        taker: TakerOrder,
        steps: &[Step],
    ) -> Traded {
        let mut traded = Traded::default();
        for step in steps {
            match step {
                Step::Fill(fill) => {
                    let (notional, spent) = self.fill(market, taker, fill);
                    let add = |to: Amount, by| to.checked_add(by).expect("sums fit 128 bits");
                    let filled = traded.filled.checked_add(fill.quantity);
                    traded.filled = filled.expect("fills are parts of one quantity");
                    traded.notional = add(traded.notional, notional);
                    traded.spent = add(traded.spent, spent);
                }
                Step::MakerCancelled { maker, remaining } => {
                    let slot = self.head(market, taker.side.opposite(), *maker);
                    let found = self.state.market_of(market).orders.get(slot).remaining();
                    assert_eq!(found, *remaining, "the event's remainder is the order's");
                    self.close(market, slot, CancelReason::SelfTrade);
                }
            }
        }
        if !traded.filled.is_zero() {
            let config = &self.state.market_of(market).config;
            let assets = [config.base, config.quote];
            let fees = self.fees_account();
            for asset in assets {
                self.tell_balance(fees, asset);
            }
        }
        traded
    }

    /// Finds the order at the head of a side, which must be the one that the event names: price-time
    /// priority is asserted here, on every fill.
    fn head(&self, market: MarketId, side: Side, maker: OrderId) -> u32 {
        let market = self.state.market_of(market);
        let head = market.book.head(side).expect("a step meets an order");
        let found = market.orders.get(head.key).order_id;
        assert_eq!(found, maker, "the first in price-time priority trades");
        head.key
    }

    fn fill(&mut self, id: MarketId, taker: TakerOrder, fill: &Fill) -> (Amount, Amount) {
        let maker_side = taker.side.opposite();
        let slot = self.head(id, maker_side, fill.maker);
        let market = self.state.market_mut(id);
        let maker = market.orders.get_mut(slot);
        assert_eq!(maker.price, fill.price, "a trade is at the maker's price");
        let filled = maker.filled.checked_add(fill.quantity).expect("fills fit the order");
        assert!(filled <= maker.quantity, "an order is filled up to its quantity");
        let notional = market.config.notional(fill.price, fill.quantity);
        let notional = notional.expect("a fill's notional is within its order's");
        let base = market.config.base_amount(fill.quantity);
        let base = base.expect("a fill's quantity is within its order's");
        maker.filled = filled;
        let total = maker.filled_notional.checked_add(notional);
        maker.filled_notional = total.expect("an order's notional fits");
        let (maker_account, maker_order) = (maker.account, maker.id);

        let (base_asset, quote_asset) = (market.config.base, market.config.quote);
        let (buyer, seller) = match taker.side {
            Side::Buy => (taker.account, maker_account),
            Side::Sell => (maker_account, taker.account),
        };
        let (buyer_fee, seller_fee) = match taker.side {
            Side::Buy => (fill.taker_fee, fill.maker_fee),
            Side::Sell => (fill.maker_fee, fill.taker_fee),
        };
        let legs = [
            Leg { asset: base_asset, payer: seller, payee: buyer, amount: base, fee: buyer_fee },
            Leg {
                asset: quote_asset,
                payer: buyer,
                payee: seller,
                amount: notional,
                fee: seller_fee,
            },
        ];
        self.note_trade(id, fill);
        self.settle(id, fill, &legs);
        self.tell_trade(id, taker, fill, (maker_account, maker_order), notional);
        self.advance_maker(id, slot, fill.quantity);
        self.tell_balance(maker_account, base_asset);
        self.tell_balance(maker_account, quote_asset);
        let spent = if taker.side == Side::Buy { notional } else { base };
        (notional, spent)
    }

    /// The market remembers a trade: its id, its price, the reference, and whether that moved too far.
    fn note_trade(&mut self, id: MarketId, fill: &Fill) {
        let time = self.state.time;
        let market = self.state.market_mut(id);
        assert_eq!(fill.trade_id, market.last_trade_id.next(), "trade ids have no gaps");
        let before = market.reference;
        market.last_trade_id = fill.trade_id;
        market.last_price = Some(fill.price);
        market.trades.add(time, fill.price, fill.quantity, before);
        market.note_reference();
        if let Some(limit) = market.config.halt_move
            && market.state == MarketState::Open
            && market.trades.moved_beyond(market.reference, limit)
        {
            market.halt_due = true;
        }
    }

    /// Moves the money: each leg from one held balance to one available balance and the fees'.
    fn settle(&mut self, market: MarketId, fill: &Fill, legs: &[Leg; 2]) {
        let fees = self.fees_account();
        for leg in legs {
            let payees = [(leg.payee, leg.net()), (fees, leg.fee)];
            self.state.ledger.transfer(leg.asset, leg.payer, Source::Held, &payees);
        }
        if O::FOLLOWS {
            self.tell_settled((market, fill.trade_id), fees, legs);
        }
    }

    /// Tells of the postings of a trade; those of nothing are left out.
    fn tell_settled(&mut self, trade: (MarketId, TradeId), fees: AccountIndex, legs: &[Leg; 2]) {
        let mut postings = [Posting {
            account: AccountId::OUTSIDE,
            asset: AssetId::default(),
            amount: SignedAmount::default(),
        }; 6];
        let mut places = postings.iter_mut();
        let mut count = 0_usize;
        for leg in legs {
            let out = leg.amount.signed().checked_neg().expect("an amount has a negative");
            let parts =
                [(leg.payer, out), (leg.payee, leg.net().signed()), (fees, leg.fee.signed())];
            for (account, amount) in parts.into_iter().filter(|(_, amount)| *amount != 0) {
                let account = self.state.ledger.id(account);
                let place = places.next().expect("two legs have six parts");
                *place = Posting { account, asset: leg.asset, amount };
                count = count.saturating_add(1);
            }
        }
        let (postings, _) = postings.split_at(count);
        self.observer.entry(&LedgerEntry {
            kind: TransferKind::Trade,
            reference: self.reference,
            trade: Some(trade),
            time: self.state.time,
            postings,
        });
    }

    /// Takes a fill off the maker's place in the book: it shows less, shows its next slice, or is gone.
    fn advance_maker(&mut self, id: MarketId, slot: u32, quantity: QuantityLots) {
        let market = self.state.market_mut(id);
        let visible = market.book.visible(slot);
        let order = market.orders.get(slot);
        let remaining = order.remaining();
        if quantity < visible {
            let level = market.book.reduce(slot, quantity);
            self.tell_level(id, level);
        } else if !remaining.is_zero() {
            assert_eq!(quantity, visible, "no more is filled than is visible");
            let display = order.extra().display.expect("only an iceberg hides a part");
            let level = market.book.refresh(slot, display.min(remaining));
            self.tell_level(id, level);
        } else {
            self.remove(id, slot, OrderStatus::Filled, None);
            return;
        }
        let status = self.state.market_of(id).orders.get(slot).status();
        self.tell_open_order(id, slot, status);
    }

    fn tell_trade(
        &mut self,
        market: MarketId,
        taker: TakerOrder,
        fill: &Fill,
        (maker_account, maker_order): (AccountIndex, CommandId),
        notional: Amount,
    ) {
        let ledger = &mut self.state.ledger;
        let taker_account_sequence = ledger.count_change(taker.account);
        let maker_account_sequence = ledger.count_change(maker_account);
        if !O::FOLLOWS {
            return;
        }
        let ledger = &self.state.ledger;
        let config = &self.state.market_of(market).config;
        let fee_assets = match taker.side {
            Side::Buy => (config.base, config.quote),
            Side::Sell => (config.quote, config.base),
        };
        self.observer.trade(&Trade {
            market,
            trade_id: fill.trade_id,
            sequence: self.state.sequence,
            time: self.state.time,
            price: fill.price,
            quantity: fill.quantity,
            notional,
            taker_side: taker.side,
            taker_order: taker.id,
            taker_order_id: taker.order_id,
            taker_account: ledger.id(taker.account),
            taker_fee: fill.taker_fee,
            maker_order,
            maker_order_id: fill.maker,
            maker_account: fill.maker_account,
            maker_fee: fill.maker_fee,
            fee_assets,
            taker_account_sequence,
            maker_account_sequence,
        });
    }

    fn fees_account(&self) -> AccountIndex {
        self.state.ledger.find(AccountId::FEES).expect("the fees' account is opened at genesis")
    }
}
