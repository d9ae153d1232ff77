//! Orders: placed, cancelled, amended, triggered.

use engine::*;
use units::*;

use super::matching::{Stop, Taker, Way};
use super::{Naive, Open, Sweep, reached};

type Refused<T> = Result<T, Reject>;

fn ticks(price: u64) -> PriceTicks {
    PriceTicks::new(price).expect("a price is not zero")
}

impl Naive {
    /// Places an order: the checks in their order, then its way through the book.
    pub(crate) fn place(&mut self, command: &Command, new: &NewOrder) -> Refused<Event> {
        self.market(new.market)?;
        self.free_account(new.account)?;
        self.check_rate(new.account)?;
        self.check_client_id(new)?;
        self.check_market_state(new.market, new.post_only)?;
        self.check_form(new)?;
        let stop = matches!(new.order_type, OrderType::StopLimit | OrderType::StopMarket);
        let limit = self.limit_of(new);
        self.check_notional(new, limit)?;
        self.check_band(new, stop)?;
        self.check_count(new)?;
        if stop {
            self.check_trigger(new)?;
        }
        let remembered = self
            .remembered_cancels
            .iter()
            .position(|(order, account, _)| *order == command.id && *account == new.account);
        if remembered.is_none() {
            self.check_book(new)?;
        }

        let hold = match remembered {
            Some(_) => 0,
            None => self.hold_of(new, limit),
        };
        let pays = self.pays(new.market, new.side);
        if hold > self.purse(new.account, pays).available {
            return Err(Reject::InsufficientFunds);
        }

        // Nothing below can be refused.
        self.hold(new.account, pays, hold);
        let (arrival, priority) = self.arrive();
        let market = self.market_mut(new.market).expect("known");
        market.last_order_id += 1;
        let order = Open {
            id: command.id,
            order_id: market.last_order_id,
            new: new.clone(),
            price: limit,
            quantity: new.quantity.get(),
            filled: 0,
            filled_notional: 0,
            visible: 0,
            waits: stop,
            hold,
            arrival,
            priority,
        };
        let order_id = OrderId::new(order.order_id);
        let (steps, ending) = if let Some(at) = remembered {
            self.remembered_cancels.remove(at);
            self.keep_client_id(new);
            (Vec::new(), Ending::Cancelled(CancelReason::CancelledBeforeArrival))
        } else if stop {
            self.orders.push(order);
            (Vec::new(), Ending::Waits)
        } else {
            self.go(order, new.order_type == OrderType::Market)
        };
        let hold = Amount::new(hold);
        let placed = PlacedOrder { order_id, limit: limit.map(ticks), hold, steps, ending };
        Ok(Event::OrderPlaced(placed))
    }

    fn arrive(&mut self) -> (u64, u64) {
        self.arrivals += 1;
        self.priorities += 1;
        (self.arrivals, self.priorities)
    }

    /// Sends an order, whose money is held, through the book; what remains of it rests or is cancelled.
    fn go(&mut self, mut order: Open, market_order: bool) -> (Vec<Step>, Ending) {
        let new = order.new.clone();
        let way = if new.time_in_force == TimeInForce::Fok && !self.fills_wholly(&order) {
            Way { steps: Vec::new(), filled: 0, notional: 0, stop: Stop::Empty }
        } else {
            self.sweep(taker(&order))
        };
        order.filled += way.filled;
        order.filled_notional += way.notional;
        let paid = match new.side {
            Side::Buy => way.notional,
            Side::Sell => self.market(new.market).expect("known").base(way.filled),
        };
        order.hold -= paid;

        let fok = new.time_in_force == TimeInForce::Fok;
        let ioc = new.time_in_force == TimeInForce::Ioc
            || (new.order_type == OrderType::StopMarket && !market_order);
        let by_quote_alone = market_order && new.quantity.is_zero();
        let ending = match way.stop {
            Stop::Full => Ending::Filled,
            Stop::QuoteSpent if by_quote_alone && way.filled > 0 => Ending::Filled,
            Stop::QuoteSpent if fok => Ending::Cancelled(CancelReason::FillOrKill),
            Stop::QuoteSpent => Ending::Cancelled(CancelReason::QuoteAmountSpent),
            Stop::SelfTrade => Ending::Cancelled(CancelReason::SelfTrade),
            Stop::TooManySteps => Ending::Cancelled(CancelReason::TooManySteps),
            Stop::Limit | Stop::Empty if fok => Ending::Cancelled(CancelReason::FillOrKill),
            Stop::Limit if market_order => Ending::Cancelled(CancelReason::Band),
            Stop::Empty if market_order => Ending::Cancelled(CancelReason::NoLiquidity),
            Stop::Limit | Stop::Empty if ioc => Ending::Cancelled(CancelReason::ImmediateOrCancel),
            Stop::Limit | Stop::Empty => Ending::Rests,
        };
        let pays = self.pays(new.market, new.side);
        if ending == Ending::Rests {
            let remaining = order.remaining();
            let needed = self.price_of(&order, remaining);
            self.free(new.account, pays, order.hold - needed);
            order.hold = needed;
            order.waits = false;
            order.visible = new.display.map_or(remaining, |slice| slice.get().min(remaining));
            self.orders.push(order);
        } else {
            self.free(new.account, pays, order.hold);
            self.keep_client_id(&new);
        }
        (way.steps, ending)
    }

    /// Tells whether an order would be filled wholly at once; own orders do not count.
    fn fills_wholly(&self, order: &Open) -> bool {
        let way = self.rehearse(taker(order));
        way_is_whole(&way, order.quantity)
    }

    /// Sends an order through a copy of the book, with all the money in the world.
    fn rehearse(&self, taker: Taker) -> Way {
        let mut copy = self.clone();
        let pays = copy.pays(taker.market, taker.side);
        copy.purse_mut(taker.account, pays).held += 1 << 120;
        copy.sweep(taker)
    }

    /// What `quantity` of an order costs at its own price, in what it pays with.
    fn price_of(&self, order: &Open, quantity: u64) -> u128 {
        let market = self.market(order.new.market).expect("known");
        match order.new.side {
            Side::Buy => market.notional(order.price.expect("it has a limit"), quantity),
            Side::Sell => market.base(quantity),
        }
    }

    /// The limit that an order goes to market with.
    fn limit_of(&self, new: &NewOrder) -> Option<u64> {
        let market = self.market(new.market).expect("known");
        match new.order_type {
            OrderType::Limit | OrderType::StopLimit => new.price.map(PriceTicks::get),
            OrderType::Market => {
                let (low, high) = market.band(self.now.seconds())?;
                Some(if new.side == Side::Buy { high } else { low })
            }
            OrderType::StopMarket => {
                let trigger = new.trigger.expect("a stop has a trigger").get();
                let (low, high) = market.band_around(trigger).unwrap_or((trigger, trigger));
                Some(if new.side == Side::Buy { high } else { low })
            }
        }
    }

    fn hold_of(&self, new: &NewOrder, limit: Option<u64>) -> u128 {
        let market = self.market(new.market).expect("known");
        if new.order_type == OrderType::Market {
            let fok = new.time_in_force == TimeInForce::Fok;
            let way = self.rehearse(market_taker(new, limit));
            if fok && !way_is_whole(&way, new.quantity.get()) {
                return 0;
            }
            return if new.side == Side::Buy { way.notional } else { market.base(way.filled) };
        }
        match new.side {
            Side::Buy => market.notional(limit.expect("it has a limit"), new.quantity.get()),
            Side::Sell => market.base(new.quantity.get()),
        }
    }

    fn check_rate(&self, account: AccountId) -> Refused<()> {
        let found = self.live_account(account)?;
        let limit = if found.flags.market_maker {
            self.limits.maker_orders_per_second_max
        } else {
            self.limits.orders_per_second_max
        };
        let so_far = if found.rate_second == self.now.seconds() { found.rate_count } else { 0 };
        if limit != 0 && so_far >= limit { Err(Reject::RateLimited) } else { Ok(()) }
    }

    pub(crate) fn count_order(&mut self, account: AccountId) {
        let now = self.now.seconds();
        let Some(found) = self.accounts.get_mut(&account) else {
            return;
        };
        if found.rate_second != now {
            found.rate_second = now;
            found.rate_count = 0;
        }
        found.rate_count += 1;
    }

    fn check_client_id(&self, new: &NewOrder) -> Refused<()> {
        let Some(client_id) = &new.client_order_id else {
            return Ok(());
        };
        let open = self.orders.iter().any(|order| {
            order.new.account == new.account
                && order.new.client_order_id.as_ref() == Some(client_id)
        });
        let closed = self
            .closed_client_ids
            .iter()
            .any(|closed| closed.account == new.account && closed.client_order_id == *client_id);
        if open || closed { Err(Reject::ClientOrderIdUsed) } else { Ok(()) }
    }

    fn check_market_state(&self, market: MarketId, post_only: bool) -> Refused<()> {
        match self.market(market)?.state {
            MarketState::Open => Ok(()),
            MarketState::CancelOnly | MarketState::Halted => Err(Reject::MarketClosed),
            MarketState::PostOnly if post_only => Ok(()),
            MarketState::PostOnly => Err(Reject::MarketPostOnly),
        }
    }

    fn check_form(&self, new: &NewOrder) -> Refused<()> {
        let price = new.price.is_some();
        let trigger = new.trigger.is_some();
        let quote = new.quote_amount.is_some();
        let at_once = matches!(new.time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
        let to_rest = new.post_only || new.display.is_some();
        let impossible = at_once && to_rest;
        let fits = match new.order_type {
            OrderType::Limit => price && !trigger && !quote && !impossible,
            OrderType::Market => !price && !trigger && !to_rest && at_once,
            OrderType::StopLimit => {
                price && trigger && !quote && new.display.is_none() && !impossible
            }
            OrderType::StopMarket => {
                !price && trigger && !quote && !to_rest && new.time_in_force != TimeInForce::Fok
            }
        };
        if !fits {
            return Err(Reject::OrderInvalid);
        }
        let quantity = new.quantity.get();
        let market = self.market(new.market)?;
        let no_quote = new.quote_amount.is_some_and(Amount::is_zero);
        if (quantity == 0 && !quote) || new.quantity > market.config.quantity_max || no_quote {
            return Err(Reject::QuantityInvalid);
        }
        check_display(new.display, quantity)?;
        match new.time_in_force {
            TimeInForce::Gtd(until) if until <= self.now => Err(Reject::GtdOver),
            _ => Ok(()),
        }
    }

    fn check_notional(&self, new: &NewOrder, limit: Option<u64>) -> Refused<()> {
        let market = self.market(new.market)?;
        let quantity = new.quantity.get();
        let at = match new.order_type {
            OrderType::Market => market.reference(self.now.seconds()),
            _ => limit,
        };
        let by_quantity = at.filter(|_| quantity > 0).map(|price| market.notional(price, quantity));
        let by_quote = new.quote_amount.map(Amount::get);
        let most = Amount::COMMAND_MAX.get();
        let sizes = [Some(market.base(quantity)), by_quantity, by_quote];
        if sizes.into_iter().flatten().any(|size| size > most) {
            return Err(Reject::NotionalTooLarge);
        }
        let least = market.config.notional_min.get();
        let notionals = [by_quantity, by_quote];
        if notionals.into_iter().flatten().any(|notional| notional < least) {
            return Err(Reject::NotionalTooSmall);
        }
        Ok(())
    }

    /// A price is within the band: around the trigger of a stop that waits, else around the reference.
    fn check_band(&self, new: &NewOrder, waits: bool) -> Refused<()> {
        let Some(price) = new.price.map(PriceTicks::get) else {
            return Ok(());
        };
        let market = self.market(new.market)?;
        let band = match new.trigger {
            Some(trigger) if waits => market.band_around(trigger.get()),
            _ => market.band(self.now.seconds()),
        };
        match band {
            Some((low, high)) if price < low || price > high => Err(Reject::PriceBand),
            _ => Ok(()),
        }
    }

    fn check_count(&self, new: &NewOrder) -> Refused<()> {
        if new.trigger.is_none() && matches!(new.time_in_force, TimeInForce::Ioc | TimeInForce::Fok)
        {
            return Ok(());
        }
        let flags = self.live_account(new.account)?.flags;
        let most = if flags.market_maker {
            self.limits.maker_open_orders_max
        } else {
            self.limits.open_orders_max
        };
        let own =
            |order: &&Open| order.new.account == new.account && order.new.market == new.market;
        let count = self.orders.iter().filter(own).count();
        if count >= most as usize { Err(Reject::TooManyOrders) } else { Ok(()) }
    }

    fn check_trigger(&self, new: &NewOrder) -> Refused<()> {
        let trigger = new.trigger.expect("checked above").get();
        match self.market(new.market)?.last_price {
            Some(last) if reached(new.side, trigger, last) => Err(Reject::TriggerReached),
            _ => Ok(()),
        }
    }

    /// Whether an order may meet the book as it is.
    fn check_book(&self, new: &NewOrder) -> Refused<()> {
        let empty = self.queue(new.market, new.side.opposite()).is_empty();
        match new.order_type {
            OrderType::Limit if new.post_only => {
                self.check_post_only(new.market, new.side, new.price.expect("checked above").get())
            }
            OrderType::Market if empty => Err(Reject::NoLiquidity),
            _ => Ok(()),
        }
    }

    fn check_post_only(&self, market: MarketId, side: Side, price: u64) -> Refused<()> {
        let opposite = self.queue(market, side.opposite());
        let best = opposite.first().and_then(|order| order.price);
        let crosses = best.is_some_and(|best| match side {
            Side::Buy => price >= best,
            Side::Sell => price <= best,
        });
        if crosses { Err(Reject::PostOnlyWouldCross) } else { Ok(()) }
    }

    // Cancels.

    pub(crate) fn cancelled(
        &mut self,
        market: MarketId,
        order: CommandId,
        reason: CancelReason,
    ) -> Event {
        self.close(order);
        Event::OrderCancelled { market, order, reason }
    }

    /// Finds an account's own open order.
    fn find(&self, account: AccountId, order: &OrderRef) -> Result<Open, Reject> {
        let of_account = |open: &&Open| open.new.account == account;
        let mut own = self.orders.iter().filter(of_account);
        let (found, closed) = match order {
            OrderRef::Id(id) => {
                let others = self.orders.iter().any(|open| open.id == *id);
                (own.find(|open| open.id == *id), !others && self.known.contains_key(id))
            }
            OrderRef::Client(client) => (
                own.find(|open| open.new.client_order_id.as_ref() == Some(client)),
                self.closed_client_ids
                    .iter()
                    .any(|closed| closed.account == account && closed.client_order_id == *client),
            ),
        };
        match (found, closed) {
            (Some(open), _) => Ok(open.clone()),
            (None, true) => Err(Reject::OrderClosed),
            (None, false) => Err(Reject::OrderUnknown),
        }
    }

    pub(crate) fn cancel(
        &mut self,
        command: &Command,
        account: AccountId,
        order: &OrderRef,
    ) -> Refused<Event> {
        self.live_account(account)?;
        match self.find(account, order) {
            Ok(open) => Ok(self.cancelled(open.new.market, open.id, CancelReason::Requested)),
            Err(Reject::OrderUnknown) => {
                let OrderRef::Id(id) = *order else {
                    return Err(Reject::OrderUnknown);
                };
                let waits = self.remembered_cancels.iter().any(|(order, ..)| *order == id);
                if waits || self.orders.iter().any(|open| open.id == id) {
                    return Err(Reject::OrderUnknown);
                }
                self.remembered_cancels.push((id, account, command.expires_at));
                Ok(Event::CancelRemembered)
            }
            Err(reject) => Err(reject),
        }
    }

    pub(crate) fn cancel_all(
        &mut self,
        account: AccountId,
        market: Option<MarketId>,
    ) -> Refused<Event> {
        self.live_account(account)?;
        if let Some(market) = market {
            self.market(market)?;
        }
        let sweep = Sweep { account, market, before_arrival: self.arrivals + 1 };
        let all: Vec<_> =
            self.of_sweep(&sweep).into_iter().map(|order| (order.new.market, order.id)).collect();
        let now = all.len().min(self.limits.steps_max as usize);
        let more = all.len() > now;
        let orders = all[..now].to_vec();
        for (_, order) in &orders {
            self.close(*order);
        }
        if more {
            self.sweeps.push(sweep);
        }
        Ok(Event::OrdersCancelled { orders, more })
    }

    /// The orders that a cancel-all still has to cancel, in its order.
    pub(crate) fn of_sweep(&self, sweep: &Sweep) -> Vec<&Open> {
        let meant = |order: &&Open| {
            order.new.account == sweep.account
                && sweep.market.is_none_or(|market| order.new.market == market)
                && order.arrival < sweep.before_arrival
        };
        let mut orders: Vec<&Open> = self.orders.iter().filter(meant).collect();
        orders.sort_by_key(|order| (order.new.market, order.order_id));
        orders
    }

    // Amends and triggers.

    pub(crate) fn amend(&mut self, amend: &AmendOrder) -> Refused<Event> {
        self.free_account(amend.account)?;
        self.check_rate(amend.account)?;
        let old = self.find(amend.account, &amend.order)?;
        let market = old.new.market;
        self.check_market_state(market, old.new.post_only)?;

        let old_price = old.new.price.map(PriceTicks::get);
        let price = amend.price.map(PriceTicks::get).or(old_price);
        let quantity = amend.quantity.map_or(old.quantity, QuantityLots::get);
        let no_limit = old.new.order_type == OrderType::StopMarket && amend.price.is_some();
        if no_limit || (price == old_price && quantity == old.quantity) {
            return Err(Reject::AmendInvalid);
        }
        if quantity <= old.filled {
            return Err(Reject::AmendBelowFilled);
        }
        let config = &self.market(market)?.config;
        if QuantityLots::new(quantity) > config.quantity_max {
            return Err(Reject::QuantityInvalid);
        }
        check_display(
            old.new.display.map(|slice| slice.min(QuantityLots::new(quantity))),
            quantity,
        )?;

        let mut new = old.new.clone();
        new.price = price.map(ticks);
        new.quantity = QuantityLots::new(quantity);
        let limit = if old.new.order_type == OrderType::StopMarket { old.price } else { price };
        self.check_notional(&new, limit)?;
        if amend.price.is_some() {
            self.check_band(&new, old.waits)?;
        }
        let mut changed = Open { new, price: limit, quantity, ..old.clone() };
        let hold = self.price_of(&changed, changed.remaining());
        let pays = self.pays(market, old.new.side);
        let reduced = price == old_price && quantity < old.quantity;
        if hold > old.hold + self.purse(amend.account, pays).available {
            return Err(Reject::InsufficientFunds);
        }
        if !reduced && old.new.post_only && !old.waits {
            self.check_post_only(market, old.new.side, limit.expect("it has a limit"))?;
        }

        // Nothing below can be refused.
        self.free(amend.account, pays, old.hold);
        self.hold(amend.account, pays, hold);
        changed.hold = hold;
        let at = self.orders.iter().position(|order| order.id == old.id).expect("it is open");
        let (market, order, quantity) = (market, old.id, QuantityLots::new(quantity));
        if reduced {
            changed.visible = old.visible.min(changed.remaining());
            self.orders[at] = changed;
            return Ok(Event::OrderReduced { market, order, quantity });
        }
        self.orders.remove(at);
        self.priorities += 1;
        changed.priority = self.priorities;
        let order_id = OrderId::new(old.order_id);
        let (steps, ending) = if old.waits {
            self.orders.push(changed);
            (Vec::new(), Ending::Waits)
        } else {
            self.go(changed, false)
        };
        let hold = Amount::new(hold);
        let placed = PlacedOrder { order_id, limit: limit.map(ticks), hold, steps, ending };
        Ok(Event::OrderReplaced { market, order, quantity, placed })
    }

    pub(crate) fn trigger(&mut self, market: MarketId, id: CommandId) -> Event {
        let at = self.orders.iter().position(|order| order.id == id).expect("it is open");
        let mut order = self.orders.remove(at);
        order.waits = false;
        self.priorities += 1;
        order.priority = self.priorities;
        let (order_id, limit) = (OrderId::new(order.order_id), order.price);
        let hold = Amount::new(order.hold);
        let refused = order.new.post_only
            && self.check_post_only(market, order.new.side, limit.expect("a limit")).is_err();
        let (steps, ending) = if refused {
            let pays = self.pays(market, order.new.side);
            self.free(order.new.account, pays, order.hold);
            self.keep_client_id(&order.new);
            (Vec::new(), Ending::Cancelled(CancelReason::TriggerRefused))
        } else {
            self.go(order, false)
        };
        let placed = PlacedOrder { order_id, limit: limit.map(ticks), hold, steps, ending };
        Event::StopTriggered { market, order: id, placed }
    }
}

/// Whether a fill-or-kill order gets all that it asks for: its quantity, or where it names none, its quote amount.
fn way_is_whole(way: &Way, quantity: u64) -> bool {
    match way.stop {
        Stop::Full => true,
        Stop::QuoteSpent => quantity == 0 && way.filled > 0,
        _ => false,
    }
}

fn check_display(display: Option<QuantityLots>, quantity: u64) -> Refused<()> {
    match display.map(QuantityLots::get) {
        Some(slice) if slice == 0 || slice > quantity => Err(Reject::DisplayInvalid),
        // At most a hundred slices.
        Some(slice) if slice * 100 < quantity => Err(Reject::DisplayInvalid),
        _ => Ok(()),
    }
}

fn taker(order: &Open) -> Taker {
    if order.new.order_type == OrderType::Market {
        return market_taker(&order.new, order.price);
    }
    Taker {
        account: order.new.account,
        market: order.new.market,
        side: order.new.side,
        stp: order.new.self_trade_prevention,
        limit: order.price,
        quantity: Some(order.remaining()),
        quote: None,
    }
}

fn market_taker(new: &NewOrder, limit: Option<u64>) -> Taker {
    Taker {
        account: new.account,
        market: new.market,
        side: new.side,
        stp: new.self_trade_prevention,
        limit,
        quantity: (!new.quantity.is_zero()).then_some(new.quantity.get()),
        quote: new.quote_amount.map(Amount::get),
    }
}
