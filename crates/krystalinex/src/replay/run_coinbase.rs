//! Replays a Coinbase `full` recording and compares: new orders, cancels and changes are fed; matches, resting
//! orders and fills are what the core must come to by itself.
//!
//! Invariant: every difference between the recording and the core is told with its line.

use std::collections::{HashMap, VecDeque};

use engine::{Reject, Side, TimeInForce};
use units::{Amount, PriceTicks, QuantityLots};

use super::coinbase::{self, Body, Message, Received};
use super::decimal::Written;
use super::grid::{Grid, Survey};
use super::input::{Fault, Input};
use super::output::FillsFile;
use super::venue::{Fill, Order, Resting, Venue};
use super::{Mirror, Tally};

/// Reads the whole file once: every line must be well formed and none may be missing.
///
/// # Errors
///
/// [`super::input::BadLine`] for the first that is not.
pub(crate) fn survey(input: &Input) -> anyhow::Result<Survey> {
    let mut lines = input.lines("checking")?;
    let mut survey = Survey::default();
    let mut place = Place::default();
    while let Some((number, line)) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        let read = coinbase::parse(line).and_then(|message| {
            place.follow(&message)?;
            survey_message(&message, &mut survey)
        });
        read.map_err(|reason| input.bad(number, reason))?;
    }
    Ok(survey)
}

fn survey_message(message: &Message<'_>, survey: &mut Survey) -> Result<(), String> {
    let (price, size) = match &message.body {
        Body::Received { kind: Received::Limit { price, size }, .. }
        | Body::Match { price, size, .. }
        | Body::Open { price, remaining: size, .. } => (Some(*price), Some(*size)),
        Body::Received { kind: Received::Market { size, funds }, .. } => {
            let funds = funds.map_or(Ok(()), |funds| survey.funds.add(funds));
            funds.map_err(|reason| format!("the number of the funds {reason}"))?;
            (None, *size)
        }
        Body::Done { remaining, .. } | Body::Change { remaining, .. } => (None, *remaining),
        Body::Skipped => (None, None),
    };
    survey.commands += 1;
    if let Some(price) = price {
        survey.prices.add(price).map_err(|reason| format!("the price {reason}"))?;
    }
    if let Some(size) = size {
        survey.quantities.add(size).map_err(|reason| format!("the size {reason}"))?;
    }
    Ok(())
}

/// Where the feed stands: the snapshot comes first, then live messages without a gap.
#[derive(Debug, Default)]
struct Place {
    snapshot: Option<u64>,
    live: Option<u64>,
}

impl Place {
    /// Checks that a message follows those before it; `false` for one that the snapshot has in it already.
    fn follow(&mut self, message: &Message<'_>) -> Result<bool, String> {
        let sequence = message.sequence;
        if message.body == Body::Skipped {
            return Ok(false);
        }
        if message.snapshot {
            if self.live.is_some() {
                return Err("an order of the snapshot after live messages".to_owned());
            }
            let first = *self.snapshot.get_or_insert(sequence);
            if first != sequence {
                return Err(format!("sequence {sequence} differs from the snapshot's {first}"));
            }
            return Ok(true);
        }
        let last = self.live.or(self.snapshot);
        if self.live.is_none() && last.is_some_and(|last| sequence <= last) {
            return Ok(false);
        }
        if let Some(last) = last.filter(|last| last.checked_add(1) != Some(sequence)) {
            return Err(format!("sequence {sequence} follows {last}: messages are missing"));
        }
        self.live = Some(sequence);
        Ok(true)
    }
}

/// Feeds the file to the venue and compares.
///
/// # Errors
///
/// [`super::input::BadLine`] for a line that cannot be carried out; a file that cannot be read or written.
pub(crate) fn feed(
    input: &Input,
    grid: &Grid,
    venue: &mut Venue,
    fills: &mut FillsFile,
    mirror: &mut dyn Mirror,
) -> anyhow::Result<Tally> {
    let mut lines = input.lines("replaying")?;
    let mut place = Place::default();
    let mut run = Run {
        grid,
        venue,
        fills,
        tally: Tally::default(),
        expected: HashMap::new(),
        pending: VecDeque::new(),
        line: 0,
    };
    while let Some((number, line)) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        run.line = number;
        let fed = run.line(line, &mut place, mirror);
        fed.map_err(|fault| fault.at(input, number))?;
    }
    run.finish();
    Ok(run.tally)
}

/// What the recording says of an order that rests.
#[derive(Clone, Copy, Debug)]
struct Expected {
    line: u64,
    side: Side,
    price: PriceTicks,
    remaining: QuantityLots,
}

/// A fill of the core that the recording has not confirmed yet.
#[derive(Debug)]
struct Pending {
    line: u64,
    taker: String,
    fill: Fill,
}

struct Run<'a> {
    grid: &'a Grid,
    venue: &'a mut Venue,
    fills: &'a mut FillsFile,
    tally: Tally,
    expected: HashMap<String, Expected>,
    pending: VecDeque<Pending>,
    line: u64,
}

impl Run<'_> {
    fn line(
        &mut self,
        line: &[u8],
        place: &mut Place,
        mirror: &mut dyn Mirror,
    ) -> Result<(), Fault> {
        let message = coinbase::parse(line)?;
        if !place.follow(&message)? {
            self.tally.skipped += 1;
            return Ok(());
        }
        let before = self.venue.sent();
        self.message(&message)?;
        if self.venue.sent() > before {
            self.tally.commands += 1;
            mirror.send(self.venue, message.body.order().unwrap_or_default())?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        match &message.body {
            Body::Open { order, side, price, remaining } => {
                let resting = Expected {
                    line: self.line,
                    side: *side,
                    price: self.price(*price)?,
                    remaining: self.size(*remaining)?,
                };
                if message.snapshot {
                    self.snapshot_order(order, resting)?;
                } else {
                    self.compare_open(order, resting);
                }
                self.expected.insert(order.clone().into_owned(), resting);
            }
            Body::Received { order, side, kind } => {
                self.settle();
                self.received(message.sequence, order, *side, *kind)?;
            }
            Body::Match { maker, taker, side, price, size } => {
                let fill = Fill {
                    maker: (&**maker).into(),
                    price: self.price(*price)?,
                    quantity: self.size(*size)?,
                };
                self.compare_match(taker, *side, &fill);
            }
            Body::Done { order, cancelled, remaining } => {
                let remaining = remaining.map(|size| self.size(size)).transpose()?;
                if *cancelled {
                    self.settle();
                    self.cancelled(order, remaining)?;
                } else {
                    self.filled(order);
                }
                self.expected.remove(&**order);
            }
            Body::Change { order, remaining } => {
                let remaining = remaining.map(|size| self.size(size)).transpose()?;
                self.settle();
                self.changed(order, remaining)?;
            }
            Body::Skipped => {}
        }
        Ok(())
    }

    fn price(&self, price: Written) -> Result<PriceTicks, String> {
        let off =
            || format!("the price {} is off the tick of {}", price.value, self.grid.tick.size());
        self.grid.price(price.value).ok_or_else(off)
    }

    fn size(&self, size: Written) -> Result<QuantityLots, String> {
        let off = || format!("the size {} is off the lot of {}", size.value, self.grid.lot.size());
        self.grid.quantity(size.value).ok_or_else(off)
    }

    /// Places an order of the snapshot with what remains of it.
    fn snapshot_order(&mut self, id: &str, resting: Expected) -> Result<(), Fault> {
        if self.venue.order(id).is_some() {
            return Err(Fault::Line(format!("order {id} is in the snapshot already")));
        }
        let order = Order {
            side: resting.side,
            price: Some(resting.price),
            quantity: resting.remaining,
            funds: None,
            time_in_force: TimeInForce::Gtc,
            post_only: true,
        };
        match self.venue.place(id, order)? {
            Ok(_) => Ok(()),
            Err(Reject::PostOnlyWouldCross) => {
                Err(Fault::Line("the snapshot is crossed: the order would trade".to_owned()))
            }
            Err(reject) => Err(Fault::Line(format!("the core refuses it: {}", reject.code()))),
        }
    }

    fn received(
        &mut self,
        sequence: u64,
        id: &str,
        side: Side,
        kind: Received,
    ) -> Result<(), Fault> {
        if self.venue.order(id).is_some() {
            return Err(Fault::Line(format!("order {id} is open already")));
        }
        let (price, quantity, funds) = match kind {
            Received::Limit { price, size } => (Some(self.price(price)?), self.size(size)?, None),
            Received::Market { size, funds } => {
                let size = size.map_or(Ok(QuantityLots::ZERO), |size| self.size(size))?;
                (None, size, funds.map(|funds| self.funds(funds)).transpose()?)
            }
        };
        let time_in_force = if price.is_some() { TimeInForce::Gtc } else { TimeInForce::Ioc };
        let order = Order { side, price, quantity, funds, time_in_force, post_only: false };
        match self.venue.place(id, order)? {
            // A market order into an empty book is no order, and no fault of the recording.
            Ok(_) | Err(Reject::NoLiquidity) => {}
            Err(reject) => {
                return Err(Fault::Line(format!("the core refuses it: {}", reject.code())));
            }
        }
        self.fills.add(sequence, self.venue.fills(), self.grid)?;
        let pending = self.venue.fills().iter().map(|fill| Pending {
            line: self.line,
            taker: id.to_owned(),
            fill: fill.clone(),
        });
        self.pending.extend(pending);
        Ok(())
    }

    fn funds(&self, funds: Written) -> Result<Amount, String> {
        self.grid.funds(funds.value).ok_or_else(|| "the funds are too large".to_owned())
    }

    /// Compares a recorded match with the next fill of the core.
    fn compare_match(&mut self, taker: &str, maker_side: Side, recorded: &Fill) {
        match self.pending.pop_front() {
            None => {
                let text = self.fill_text(taker, recorded);
                self.differs(self.line, format!("the recording has a fill, the core none: {text}"));
            }
            Some(pending) if pending.taker == taker && pending.fill == *recorded => {
                self.tally.compared += 1;
            }
            Some(pending) => {
                let (ours, theirs) = (
                    self.fill_text(&pending.taker, &pending.fill),
                    self.fill_text(taker, recorded),
                );
                self.differs(self.line, format!("the core has {ours}; the recording {theirs}"));
            }
        }
        let Some(maker) = self.expected.get_mut(&*recorded.maker) else {
            return self.differs(self.line, format!("maker {} does not rest", recorded.maker));
        };
        let side = maker.side;
        match maker.remaining.checked_sub(recorded.quantity) {
            Some(remaining) => maker.remaining = remaining,
            None => maker.remaining = QuantityLots::ZERO,
        }
        if side != maker_side {
            self.differs(self.line, format!("maker {} is on the other side", recorded.maker));
        }
    }

    fn compare_open(&mut self, id: &str, recorded: Expected) {
        match self.venue.order(id) {
            None => self.differs(self.line, format!("order {id} rests; the core has it closed")),
            Some(ours) if same(&ours, &recorded) => self.tally.compared += 1,
            Some(ours) => {
                let (ours, theirs) = (self.resting_text(&ours), self.expected_text(&recorded));
                let text = format!("order {id} rests: the core has {ours}; the recording {theirs}");
                self.differs(self.line, text);
            }
        }
    }

    fn filled(&mut self, id: &str) {
        match self.venue.order(id) {
            None => self.tally.compared += 1,
            Some(ours) => {
                let ours = self.resting_text(&ours);
                self.differs(self.line, format!("order {id} is filled; the core has {ours}"));
            }
        }
        let left = self.expected.get(id).filter(|left| !left.remaining.is_zero()).copied();
        if let Some(left) = left {
            let text = self.grid.quantity_text(left.remaining);
            self.differs(self.line, format!("order {id} is filled with {text} remaining"));
        }
    }

    fn cancelled(&mut self, id: &str, remaining: Option<QuantityLots>) -> Result<(), Fault> {
        let Some(ours) = self.venue.order(id) else {
            // An order that the core has ended by itself (a market order's rest), or one never received.
            if self.expected.contains_key(id) {
                self.differs(self.line, format!("order {id} is cancelled; the core has it closed"));
            } else {
                self.tally.no_ops += 1;
            }
            return Ok(());
        };
        match remaining {
            Some(remaining) if remaining != ours.remaining => {
                let theirs = self.grid.quantity_text(remaining);
                let ours = self.resting_text(&ours);
                let text =
                    format!("order {id} is cancelled with {theirs} remaining; the core has {ours}");
                self.differs(self.line, text);
            }
            _ => self.tally.compared += 1,
        }
        self.venue.cancel(id)?;
        Ok(())
    }

    fn changed(&mut self, id: &str, remaining: Option<QuantityLots>) -> Result<(), Fault> {
        let (Some(ours), Some(remaining)) = (self.venue.order(id), remaining) else {
            self.tally.no_ops += 1;
            return Ok(());
        };
        let Some(less) = ours.remaining.checked_sub(remaining) else {
            return Err(Fault::Line(format!("order {id} is changed to more than remains")));
        };
        if !less.is_zero() {
            self.venue.reduce(id, less)?;
        }
        if let Some(expected) = self.expected.get_mut(id) {
            expected.remaining = remaining;
        }
        Ok(())
    }

    /// Reports the fills of the core that the recording does not have.
    fn settle(&mut self) {
        while let Some(pending) = self.pending.pop_front() {
            let text = self.fill_text(&pending.taker, &pending.fill);
            self.differs(pending.line, format!("the core has a fill, the recording none: {text}"));
        }
    }

    /// Compares what rests at the end.
    fn finish(&mut self) {
        self.settle();
        let mut texts = Vec::new();
        for (id, ours) in self.venue.orders() {
            if !self.expected.contains_key(id) {
                let ours = self.resting_text(&ours);
                texts.push((self.line, format!("at the end the core has order {id}, {ours}")));
            }
        }
        for (id, expected) in &self.expected {
            let theirs = self.expected_text(expected);
            match self.venue.order(id) {
                Some(ours) if same(&ours, expected) => self.tally.resting += 1,
                Some(ours) => {
                    let ours = self.resting_text(&ours);
                    let text =
                        format!("at the end order {id} is {ours}; the recording has {theirs}");
                    texts.push((expected.line, text));
                }
                None if expected.remaining.is_zero() => {}
                None => {
                    let text =
                        format!("at the end order {id} is closed; the recording has {theirs}");
                    texts.push((expected.line, text));
                }
            }
        }
        texts.sort();
        for (line, text) in texts {
            self.differs(line, text);
        }
    }

    fn differs(&mut self, line: u64, text: String) {
        self.tally.differs(line, text);
    }

    fn fill_text(&self, taker: &str, fill: &Fill) -> String {
        let (quantity, price) =
            (self.grid.quantity_text(fill.quantity), self.grid.price_text(fill.price));
        format!("{quantity} at {price} (maker {}, taker {taker})", fill.maker)
    }

    fn resting_text(&self, resting: &Resting) -> String {
        let (quantity, price) =
            (self.grid.quantity_text(resting.remaining), self.grid.price_text(resting.price));
        format!("{:?} {quantity} at {price}", resting.side)
    }

    fn expected_text(&self, expected: &Expected) -> String {
        let Expected { side, price, remaining, .. } = *expected;
        self.resting_text(&Resting { side, price, remaining })
    }
}

fn same(ours: &Resting, recorded: &Expected) -> bool {
    ours.side == recorded.side
        && ours.price == recorded.price
        && ours.remaining == recorded.remaining
}
