//! Replays an order-flow file: every line is fed, what it fills is written.

use engine::{Side, TimeInForce};
use units::{PriceTicks, QuantityLots};

use super::grid::{Grid, Survey};
use super::input::{Fault, Input, Lines};
use super::order_flow::{self, Command, Row};
use super::output::FillsFile;
use super::venue::{Order, Reduced, Venue};
use super::{Mirror, Tally};

/// Reads the whole file once: every line must be well formed.
///
/// # Errors
///
/// [`super::input::BadLine`] for the first that is not.
pub(crate) fn survey(input: &Input) -> anyhow::Result<Survey> {
    let mut lines = open(input, "checking")?;
    let mut survey = Survey::default();
    let mut last_seq = 0;
    while let Some((number, line)) = lines.next()? {
        if !line.is_empty() {
            read(line, &mut survey, &mut last_seq).map_err(|reason| input.bad(number, reason))?;
        }
    }
    Ok(survey)
}

fn open(input: &Input, what: &'static str) -> anyhow::Result<Lines> {
    let mut lines = input.lines(what)?;
    let header = lines.next()?.map_or(&b""[..], |(_, line)| line);
    order_flow::check_header(header).map_err(|reason| input.bad(1, reason))?;
    Ok(lines)
}

fn read(line: &[u8], survey: &mut Survey, last_seq: &mut u64) -> Result<(), String> {
    let row = order_flow::parse(line)?;
    if row.seq < *last_seq {
        return Err(format!("seq {} comes after {last_seq}", row.seq));
    }
    *last_seq = row.seq;
    survey.commands += 1;
    if let Some(price) = row.price {
        survey.prices.add(price).map_err(|reason| format!("the price {reason}"))?;
    }
    if let Some(quantity) = row.quantity {
        survey.quantities.add(quantity).map_err(|reason| format!("the quantity {reason}"))?;
    }
    Ok(())
}

/// Feeds every line to the venue, and what the venue was asked to the mirror.
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
    let mut lines = open(input, "replaying")?;
    let mut tally = Tally::default();
    while let Some((number, line)) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        tally.commands += 1;
        let before = venue.sent();
        let fed = feed_line(line, grid, venue, fills, &mut tally);
        let order_id = fed.map_err(|fault: Fault| fault.at(input, number))?;
        if venue.sent() > before {
            let sent = mirror.send(venue, order_id);
            sent.map_err(|error| Fault::Other(error).at(input, number))?;
        }
    }
    Ok(tally)
}

/// Carries out one line and returns its order id.
fn feed_line<'a>(
    line: &'a [u8],
    grid: &Grid,
    venue: &mut Venue,
    fills: &mut FillsFile,
    tally: &mut Tally,
) -> Result<&'a str, Fault> {
    let row = order_flow::parse(line)?;
    match row.command {
        Command::Cancel => {
            let open = venue.cancel(row.order_id)?;
            tally.no_ops += u64::from(!open);
        }
        Command::Reduce => {
            let reduced = venue.reduce(row.order_id, quantity(&row, grid)?)?;
            tally.no_ops += u64::from(reduced == Reduced::NotOpen);
        }
        Command::Add | Command::Take => {
            place(&row, grid, venue)?;
            fills.add(row.seq, venue.fills(), grid)?;
        }
    }
    Ok(row.order_id)
}

fn place(row: &Row<'_>, grid: &Grid, venue: &mut Venue) -> Result<(), Fault> {
    let rests = row.command == Command::Add;
    if rests && venue.order(row.order_id).is_some() {
        return Err(Fault::Line(format!("order {:?} is open already", row.order_id)));
    }
    let order = Order {
        side: row.side.unwrap_or(Side::Buy),
        price: Some(price(row, grid)?),
        quantity: quantity(row, grid)?,
        funds: None,
        time_in_force: if rests { TimeInForce::Gtc } else { TimeInForce::Ioc },
        post_only: false,
    };
    match venue.place(row.order_id, order)? {
        Ok(_) => Ok(()),
        Err(reject) => Err(Fault::Line(format!("the core refuses it: {}", reject.code()))),
    }
}

fn price(row: &Row<'_>, grid: &Grid) -> Result<PriceTicks, String> {
    let price = row.price.ok_or("the price is missing")?.value;
    let off = || format!("the price {price} is off the tick of {}", grid.tick.size());
    grid.price(price).ok_or_else(off)
}

fn quantity(row: &Row<'_>, grid: &Grid) -> Result<QuantityLots, String> {
    let quantity = row.quantity.ok_or("the quantity is missing")?.value;
    let off = || format!("the quantity {quantity} is off the lot of {}", grid.lot.size());
    grid.quantity(quantity).ok_or_else(off)
}
