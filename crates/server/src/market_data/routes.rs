//! The routes of market data: a market's rules, book, trades, ticker and candles, and the latest trades of all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Out;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use store::market_data::{self, StoredInterval};
use units::{Sequence, Time};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::body::{self, Page};
use wire::enums::Interval;
use wire::{symbol, time};

use super::candles::{self, Candle, MINUTE_MICROS, Minute};
use super::market::{DEPTH_MAX, Market};
use super::past;
use super::say::{Rules, say_candle, say_trade};
use crate::app::App;
use crate::body::{Query, Segment, page_size};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};

/// How long a read waits until the market data shows the row that it asks for.
const SEQUENCE_WAIT: Duration = Duration::from_secs(1);
const DEPTH_DEFAULT: usize = 100;
/// Candles of one answer.
const CANDLES_MAX: usize = 1_000;
const CANDLES_DEFAULT: usize = 500;

type Shared = Arc<Mutex<Market>>;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(one))
        .routes(routes!(book))
        .routes(routes!(trades))
        .routes(routes!(ticker))
        .routes(routes!(candles))
        .routes(routes!(public_trades))
}

/// Finds a market by the form that stands in paths, as it is after the row that the read must have seen.
async fn find(app: &App, context: &Context, text: &str) -> Result<Shared, Problem> {
    if let Some(sequence) = context.min_sequence
        && !app.market_data.wait_for(sequence, SEQUENCE_WAIT).await
    {
        return Err(Problem::new(Code::Behind));
    }
    app.market_data.market_of_path(text).ok_or_else(|| Problem::new(Code::NotFound))
}

/// Reads a whole number of a query.
fn number(field: &str, text: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(default) };
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if plain { text.parse().unwrap_or(usize::MAX) } else { 0 };
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    let message = format!("must be a whole number from 1 to {max}");
    let nearest = if value > max { max } else { 1 };
    Err(Problem::value(field, "out_of_range", message).nearest(nearest.to_string()))
}

/// Answers with bytes that were made before.
fn answer(app: &App, sequence: Sequence, bytes: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    with_sequence(app, sequence, ([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

/// Shows a market's rules and state.
#[utoipa::path(get, path = "/api/v1/markets/{symbol}", tag = "Markets",
    params(("symbol" = String, Path, example = "BTC-USD", description = "The market, such as `BTC-USD`")), responses(
    (status = 200, body = body::Market), (status = 404, body = ProblemBody)))]
async fn one(State(app): State<App>, Segment(text): Segment) -> Result<Response, Problem> {
    let not_found = || Problem::new(Code::NotFound);
    let symbol = symbol::from_text(&text).ok_or_else(not_found)?;
    let (market, sequence) = app
        .live
        .read(|state| {
            let view = state.market(state.market_by_symbol(&symbol)?)?;
            Some((wire::render::market(&view, state.assets())?, state.sequence()))
        })
        .ok_or_else(not_found)?;
    Ok(with_sequence(&app, sequence, Out(market).into_response()))
}

/// How much of the book.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BookQuery {
    /// Levels of each side: 1 to 1000; 100 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    depth: Option<String>,
}

/// Shows a market's book: visible quantity by price, best first.
///
/// `lastUpdateId` and `checksum` fit the `book` channel of `/ws`. The `ETag` is the last update: ask with `If-None-Match`
/// to be answered 304 while nothing has changed.
#[utoipa::path(get, path = "/api/v1/markets/{symbol}/book", tag = "Markets",
    params(("symbol" = String, Path, example = "BTC-USD", description = "The market, such as `BTC-USD`"), BookQuery), responses(
    (status = 200, body = body::Book), (status = 304, description = "Nothing has changed"),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn book(
    State(app): State<App>,
    context: Context,
    Segment(text): Segment,
    Query(query): Query<BookQuery>,
    IfNoneMatch(known): IfNoneMatch,
) -> Result<Response, Problem> {
    let depth = number("depth", query.depth.as_deref(), DEPTH_DEFAULT, DEPTH_MAX)?;
    let market = find(&app, &context, &text).await?;
    let (book, sequence) = {
        let mut market = market.lock();
        (market.book(depth), market.sequence())
    };
    let mut response = if known.as_ref() == Some(&book.tag) {
        with_sequence(&app, sequence, StatusCode::NOT_MODIFIED.into_response())
    } else {
        answer(&app, sequence, book.bytes)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, book.tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The `If-None-Match` of a request, alone: taking all headers would copy them.
struct IfNoneMatch(Option<HeaderValue>);

impl FromRequestParts<App> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(header::IF_NONE_MATCH).cloned()))
    }
}

/// Shows a market's last and best prices, and what it did in the last 24 hours, exact by trade.
#[utoipa::path(get, path = "/api/v1/markets/{symbol}/ticker", tag = "Markets",
    params(("symbol" = String, Path, example = "BTC-USD", description = "The market, such as `BTC-USD`")), responses(
    (status = 200, body = body::Ticker), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody)))]
async fn ticker(
    State(app): State<App>,
    context: Context,
    Segment(text): Segment,
) -> Result<Response, Problem> {
    let market = find(&app, &context, &text).await?;
    let (bytes, sequence) = {
        let mut market = market.lock();
        (market.ticker(), market.sequence())
    };
    Ok(answer(&app, sequence, bytes.ok_or_else(|| Problem::new(Code::Behind))?))
}

/// Which trades.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TradesQuery {
    /// 1 to 500; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists a market's trades, newest first.
#[utoipa::path(get, path = "/api/v1/markets/{symbol}/trades", tag = "Markets",
    params(("symbol" = String, Path, example = "BTC-USD", description = "The market, such as `BTC-USD`"), TradesQuery), responses(
    (status = 200, body = Page<body::Trade>), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn trades(
    State(app): State<App>,
    context: Context,
    Segment(text): Segment,
    Query(query): Query<TradesQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(trade_cursor).transpose()?;
    let market = find(&app, &context, &text).await?;
    let (rules, mut rows, sequence, complete) = {
        let market = market.lock();
        let older =
            |row: &&market_data::TradeRow| before.is_none_or(|before| row.trade_id < before);
        let rows: Vec<_> = market.recent().rev().filter(older).take(size + 1).copied().collect();
        // What is older than the trades in memory is read from the projections.
        let complete = rows.len() > size || rows.last().is_some_and(|row| row.trade_id == 1);
        (market.rules().clone(), rows, market.sequence(), complete)
    };
    if !complete {
        let from = rows.last().map_or(before.unwrap_or(u64::MAX), |row| row.trade_id);
        let rest = size + 1 - rows.len();
        let older = market_data::trades_before(&app.db, rules.id, from, sequence, rest).await;
        rows.extend(older.map_err(|error| Problem::unavailable("cannot list trades", &error))?);
    }
    let more = rows.len() > size;
    rows.truncate(size);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.trade_id.to_string());
    let items = rows.iter().map(|row| say_trade(&rules, row)).collect();
    Ok(with_sequence(&app, sequence, Out(Page { items, next_cursor }).into_response()))
}

fn trade_cursor(text: &str) -> Result<u64, Problem> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = plain.then(|| text.parse().ok()).flatten();
    id.ok_or_else(|| {
        let rule = "must be the nextCursor of the page before";
        Problem::value("cursor", "cursor_invalid", rule)
    })
}

/// How many trades.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PublicQuery {
    /// 1 to 500; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
}

/// Lists the latest trades of all markets, newest first.
#[utoipa::path(get, path = "/api/v1/public/trades", tag = "Markets", params(PublicQuery), responses(
    (status = 200, body = Page<body::Trade>), (status = 422, body = ProblemBody)))]
async fn public_trades(
    State(app): State<App>,
    Query(query): Query<PublicQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let mut items: Vec<body::Trade> = Vec::new();
    for market in app.market_data.all() {
        let market = market.lock();
        let said = market.recent().rev().take(size).map(|row| say_trade(market.rules(), row));
        items.extend(said);
    }
    items.sort_by_key(|trade| std::cmp::Reverse((trade.time, trade.trade_id)));
    items.truncate(size);
    let sequence = app.market_data.sequence();
    Ok(with_sequence(&app, sequence, Out(Page { items, next_cursor: None }).into_response()))
}

/// Which candles.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CandlesQuery {
    /// The length of each; `1m` unless given.
    #[param(value_type = Option<Interval>)]
    interval: Option<String>,
    /// Candles that begin at this time or later; as many as `limit` before `end` unless given.
    #[param(value_type = Option<String>, format = DateTime)]
    start: Option<String>,
    /// Candles that begin before this time; now unless given.
    #[param(value_type = Option<String>, format = DateTime)]
    end: Option<String>,
    /// 1 to 1000; 500 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

/// Lists a market's candles without holes, oldest first, the one that is under way included.
///
/// `[openTime, closeTime)` in UTC. With `start`, the first `limit` candles from there; without, the last ones. An
/// interval without trades carries the last close, with volume 0; before a market's first trade there are none.
#[utoipa::path(get, path = "/api/v1/markets/{symbol}/candles", tag = "Markets",
    params(("symbol" = String, Path, example = "BTC-USD", description = "The market, such as `BTC-USD`"), CandlesQuery), responses(
    (status = 200, body = body::Candles), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody),
    (status = 503, body = ProblemBody)))]
async fn candles(
    State(app): State<App>,
    context: Context,
    Segment(text): Segment,
    Query(query): Query<CandlesQuery>,
) -> Result<Response, Problem> {
    let interval = match query.interval.as_deref() {
        None => Interval::OneMinute,
        Some(word) => Interval::parse(word).ok_or_else(|| {
            let rule = format!("must be one of {}", Interval::WORDS.join(", "));
            Problem::value("interval", "unknown_value", rule)
        })?,
    };
    let limit = number("limit", query.limit.as_deref(), CANDLES_DEFAULT, CANDLES_MAX)?;
    let start = moment("start", query.start.as_deref())?;
    let end = moment("end", query.end.as_deref())?;
    let market = find(&app, &context, &text).await?;
    let wanted = |now: Time| span(interval, limit, start, end, now);
    let (made, rules, sequence, now) = assemble(&app, &market, interval, wanted).await?;
    let candles = made.iter().map(|candle| say_candle(&rules, candle, interval, now)).collect();
    let market = rules.market.symbol.to_string();
    let body = body::Candles { market, interval, candles };
    Ok(with_sequence(&app, sequence, Out(body).into_response()))
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<Time>, Problem> {
    let read = |text| {
        time::parse(text).ok_or_else(|| {
            let rule = "must be an RFC 3339 time with at most six digits of fraction";
            Problem::value(field, "time_malformed", rule)
        })
    };
    text.map(read).transpose()
}

/// Returns the minutes `[from, until)` of the candles that are asked for, whole intervals.
fn span(
    interval: Interval,
    limit: usize,
    start: Option<Time>,
    end: Option<Time>,
    now: Time,
) -> (u64, u64) {
    let minute = |time: Time| time.micros().div_ceil(MINUTE_MICROS);
    let length = interval.minutes();
    let whole = |minute: u64| minute.div_ceil(length).saturating_mul(length);
    let next = candles::bucket(now.micros() / MINUTE_MICROS, interval) + length;
    let until = end.map_or(next, |end| whole(minute(end)).min(next));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_mul(length);
    match start {
        Some(start) => {
            let from = whole(minute(start));
            (from, until.min(from.saturating_add(most)))
        }
        None => (until.saturating_sub(most), until),
    }
}

/// Makes candles from the minutes in memory, and from the projection for what is older.
async fn assemble(
    app: &App,
    market: &Shared,
    interval: Interval,
    wanted: impl Fn(Time) -> (u64, u64),
) -> Result<(Vec<Candle>, Rules, Sequence, Time), Problem> {
    let (rules, sequence, now, (from, until), split, minutes, carry) = {
        let market = market.lock();
        let Some((minutes, now)) = market.minutes() else {
            return Err(Problem::new(Code::Behind));
        };
        let (from, until) = wanted(now);
        // The first interval that is wholly in memory.
        let length = interval.minutes();
        let split = minutes
            .known_from()
            .div_ceil(length)
            .saturating_mul(length)
            .clamp(from, until.max(from));
        let latest: Vec<Minute> = minutes.range(split, until).collect();
        let carry = minutes.close_before(split);
        (market.rules().clone(), market.sequence(), now, (from, until), split, latest, carry)
    };
    let failed = |error| Problem::unavailable("cannot read candles", &error);
    let at = |minute: u64| Time::from_micros(minute.saturating_mul(MINUTE_MICROS));
    let mut made = Vec::new();
    let mut carry = carry;
    if from < split {
        let stored = stored_interval(interval);
        let rows = market_data::candles(&app.db, rules.id, stored, at(from), at(split)).await;
        let rows = rows.map_err(failed)?;
        let before =
            market_data::close_before(&app.db, rules.id, at(from)).await.map_err(failed)?;
        let rows = rows.iter().map(|row| (row.time.micros() / MINUTE_MICROS, past::tally(row)));
        made = candles::assemble(rows, interval, from, split, before);
        carry = made.last().map(|candle| candle.close).or(before);
    } else if carry.is_none() {
        carry = market_data::close_before(&app.db, rules.id, at(split)).await.map_err(failed)?;
    }
    made.extend(candles::assemble(minutes, interval, split, until, carry));
    Ok((made, rules, sequence, now))
}

/// The longest stored candle that whole ones of make the interval.
fn stored_interval(interval: Interval) -> StoredInterval {
    match interval {
        Interval::OneMinute | Interval::FiveMinutes | Interval::FifteenMinutes => {
            StoredInterval::Minute
        }
        Interval::OneHour | Interval::FourHours => StoredInterval::Hour,
        Interval::OneDay => StoredInterval::Day,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_intervals_within_the_limit() {
        let at = |text: &str| Some(time::parse(text).expect("it is a time"));
        let now = time::parse("2026-11-24T10:07:30Z").expect("it is a time");
        let day = 24 * 60 * 20_781_u64;
        let (from, until) = span(Interval::FiveMinutes, 3, None, None, now);
        assert_eq!((from - day, until - day), (595, 610));
        let (from, until) = span(
            Interval::OneHour,
            500,
            at("2026-11-24T08:00:00Z"),
            at("2026-11-24T09:30:00Z"),
            now,
        );
        assert_eq!((from - day, until - day), (480, 600));
        // Nothing is shown of the future, and an end before the start is nothing at all.
        let (from, until) = span(Interval::OneMinute, 2, at("2030-01-01T00:00:00Z"), None, now);
        assert!(until <= from);
        let (_, until) = span(Interval::OneMinute, 2, None, at("2030-01-01T00:00:00Z"), now);
        assert_eq!(until - day, 608);
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(number("depth", None, 100, 1_000).unwrap(), 100);
        assert_eq!(number("depth", Some("7"), 100, 1_000).unwrap(), 7);
        for text in ["", "0", "-1", "1001", "1e2", "+5", "99999999999999999999999999", "x"] {
            let problem = number("depth", Some(text), 100, 1_000).unwrap_err();
            assert_eq!(problem.code(), Code::ValueInvalid, "{text}");
        }
    }
}
