//! The statements that write a generation. Names are resolved in the generation's schema, which the session's search
//! path puts first.

/// Moves the progress, if nobody else has; the first statement of each write, so that two writers follow one another.
pub(super) const ADVANCE: &str = "
    UPDATE projection_parts
    SET sequence = $3, time = $4, hash = $5, updated_at = clock_timestamp()
    WHERE generation = $1 AND part = $7 AND sequence = $2 AND (active OR NOT $6)";

pub(super) const TRADES: &str = "COPY trades (
    market_id, trade_id, sequence, command_index, time, price_ticks, quantity_lots, notional, taker_side,
    taker_order, taker_order_id, taker_account_id, taker_fee, taker_fee_asset_id, taker_account_sequence,
    maker_order, maker_order_id, maker_account_id, maker_fee, maker_fee_asset_id, maker_account_sequence
) FROM STDIN (FORMAT binary)";

pub(super) const POSTINGS: &str = "COPY postings (
    sequence, posting, command_index, kind, reference, market_id, trade_id, time, account_id, asset_id, amount
) FROM STDIN (FORMAT binary)";

/// The columns of `orders`, in the order in which they are written.
macro_rules! order_columns {
    () => {
        "id, order_id, account_id, market_id, side, order_type, time_in_force, good_till, post_only, price_ticks,
        quantity_lots, quote_amount, filled_lots, filled_notional, trigger_ticks, triggered, display_lots,
        self_trade_prevention, client_order_id, status, reason, created_at, created_in, updated_at, updated_in,
        account_sequence"
    };
}

/// An order that is placed takes the place of a refusal with its id: the id was free again after the window.
pub(super) const ORDERS_BEFORE: &str = "DELETE FROM orders WHERE id = ANY($1)";

pub(super) const ORDERS: &str =
    concat!("COPY orders (", order_columns!(), ") FROM STDIN (FORMAT binary)");

/// What may become of an order that stands there already.
pub(super) const ORDERS_CHANGED: &str = "
    UPDATE orders o SET
        price_ticks = t.price, quantity_lots = t.quantity, filled_lots = t.filled, filled_notional = t.notional,
        triggered = t.triggered, status = t.status, reason = t.reason, updated_at = t.time,
        updated_in = t.sequence, account_sequence = t.account_sequence
    FROM unnest(
        $1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[], $6::bool[], $7::text[],
        $8::text[], $9::timestamptz[], $10::bigint[], $11::bigint[])
        AS t (id, price, quantity, filled, notional, triggered, status, reason, time, sequence, account_sequence)
    WHERE o.id = t.id";

pub(super) const REFUSED_ORDERS: &str = concat!(
    "INSERT INTO orders (",
    order_columns!(),
    ") SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
        $9::bool[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::numeric[], $15::numeric[],
        $16::bool[], $17::numeric[], $18::text[], $19::text[], $20::text[], $21::text[], $22::timestamptz[],
        $23::bigint[], $24::timestamptz[], $25::bigint[], $26::bigint[])"
);

/// A refusal never takes the place of a row that is there.
pub(super) const FIRST: &str = " ON CONFLICT (id) DO NOTHING";

/// Nearly every balance stands there already: then it is changed without being asked for twice.
pub(super) const BALANCES_CHANGED: &str = "
    UPDATE balances b SET
        available = t.available, held = t.held, account_sequence = t.account_sequence, updated_in = t.sequence,
        updated_at = t.time
    FROM unnest(
        $1::bigint[], $2::int[], $3::numeric[], $4::numeric[], $5::bigint[], $6::bigint[], $7::timestamptz[])
        AS t (account, asset, available, held, account_sequence, sequence, time)
    WHERE (b.account_id, b.asset_id) = (t.account, t.asset)";

pub(super) const BALANCES: &str = "
    INSERT INTO balances (account_id, asset_id, available, held, account_sequence, updated_in, updated_at)
    SELECT * FROM unnest(
        $1::bigint[], $2::int[], $3::numeric[], $4::numeric[], $5::bigint[], $6::bigint[], $7::timestamptz[])
    ON CONFLICT (account_id, asset_id) DO UPDATE SET
        available = excluded.available, held = excluded.held, account_sequence = excluded.account_sequence,
        updated_in = excluded.updated_in, updated_at = excluded.updated_at";

pub(super) const ACCOUNTS: &str = "
    INSERT INTO accounts (id, opened_at, opened_in)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[])
    ON CONFLICT (id) DO NOTHING";

pub(super) const FLAGS: &str = "
    UPDATE accounts SET locked = $2, withdrawals_frozen = $3, market_maker = $4, closed = $5 WHERE id = $1";

pub(super) const DEPOSITS: &str = "
    INSERT INTO deposits
        (id, account_id, asset_id, amount, reference, sandbox, status, reason, sequence, created_at)
    SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::int[], $4::numeric[], $5::uuid[], $6::bool[], $7::text[], $8::text[],
        $9::bigint[], $10::timestamptz[])";

pub(super) const DEPOSITS_LAST: &str = "
    ON CONFLICT (id) DO UPDATE SET
        account_id = excluded.account_id, asset_id = excluded.asset_id, amount = excluded.amount,
        reference = excluded.reference, sandbox = excluded.sandbox, status = excluded.status,
        reason = excluded.reason, sequence = excluded.sequence, created_at = excluded.created_at";

pub(super) const TRANSFERS: &str = "
    INSERT INTO transfers
        (id, from_account_id, to_account_id, asset_id, amount, status, reason, sequence, created_at)
    SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::bigint[], $4::int[], $5::numeric[], $6::text[], $7::text[], $8::bigint[],
        $9::timestamptz[])";

pub(super) const TRANSFERS_LAST: &str = "
    ON CONFLICT (id) DO UPDATE SET
        from_account_id = excluded.from_account_id, to_account_id = excluded.to_account_id,
        asset_id = excluded.asset_id, amount = excluded.amount, status = excluded.status,
        reason = excluded.reason, sequence = excluded.sequence, created_at = excluded.created_at";

pub(super) const REQUESTS: &str = "
    INSERT INTO withdrawals (id, account_id, asset_id, amount, destination, status, reason, sequence, created_at,
        updated_in, updated_at, account_sequence)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8, $9, 0)";

pub(super) const REQUESTS_LAST: &str = "
    ON CONFLICT (id) DO UPDATE SET
        account_id = excluded.account_id, asset_id = excluded.asset_id, amount = excluded.amount,
        destination = excluded.destination, status = excluded.status, reason = excluded.reason,
        sequence = excluded.sequence, created_at = excluded.created_at";

pub(super) const WITHDRAWAL: &str = "
    UPDATE withdrawals SET status = $2, updated_in = $3, updated_at = $4, account_sequence = $5 WHERE id = $1";

pub(super) const ASSET: &str = "
    INSERT INTO assets (id, symbol, scale, transfer_scale, defined_in)
    VALUES ((SELECT count(*) FROM assets), $1, $2, $3, $4)
    ON CONFLICT (symbol) DO UPDATE SET
        scale = excluded.scale, transfer_scale = excluded.transfer_scale, defined_in = excluded.defined_in";

pub(super) const MARKET: &str = "
    INSERT INTO markets (id, symbol, base_asset_id, quote_asset_id, base_units_per_lot, quote_units_per_tick_lot,
        tick_size, lot_size, notional_min_units, quantity_max_lots, maker_fee_ppm, taker_fee_ppm, band_ppm,
        halt_move_ppm, initial_price_ticks, state, defined_in)
    VALUES ((SELECT count(*) FROM markets), $1, $2, $3, $4, $5,
        ledger_decimal($6, (SELECT scale FROM assets WHERE id = $3)),
        ledger_decimal($4, (SELECT scale FROM assets WHERE id = $2)), $7, $8, $9, $10, $11, $12, $13, 'open', $14)
    ON CONFLICT (symbol) DO UPDATE SET
        base_asset_id = excluded.base_asset_id, quote_asset_id = excluded.quote_asset_id,
        base_units_per_lot = excluded.base_units_per_lot,
        quote_units_per_tick_lot = excluded.quote_units_per_tick_lot, tick_size = excluded.tick_size,
        lot_size = excluded.lot_size,
        notional_min_units = excluded.notional_min_units, quantity_max_lots = excluded.quantity_max_lots,
        maker_fee_ppm = excluded.maker_fee_ppm, taker_fee_ppm = excluded.taker_fee_ppm,
        band_ppm = excluded.band_ppm, halt_move_ppm = excluded.halt_move_ppm,
        initial_price_ticks = excluded.initial_price_ticks, defined_in = excluded.defined_in";

pub(super) const MARKET_STATE: &str = "UPDATE markets SET state = $2 WHERE id = $1";

pub(super) const LAST_PRICES: &str = "
    UPDATE markets m SET last_price_ticks = t.price
    FROM unnest($1::int[], $2::numeric[]) AS t (market, price) WHERE m.id = t.market";

pub(super) const CANDLES: &str = "
    INSERT INTO market_candles AS c (market_id, interval_seconds, open_time, open_ticks, high_ticks, low_ticks,
        close_ticks, volume_lots, volume_notional, taker_buy_lots, taker_buy_notional, trades, first_trade_id,
        last_trade_id)
    SELECT * FROM unnest(
        $1::int[], $2::int[], $3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[],
        $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::bigint[], $13::bigint[], $14::bigint[])
    ON CONFLICT (market_id, interval_seconds, open_time) DO UPDATE SET
        high_ticks = greatest(c.high_ticks, excluded.high_ticks),
        low_ticks = least(c.low_ticks, excluded.low_ticks),
        close_ticks = excluded.close_ticks,
        volume_lots = c.volume_lots + excluded.volume_lots,
        volume_notional = c.volume_notional + excluded.volume_notional,
        taker_buy_lots = c.taker_buy_lots + excluded.taker_buy_lots,
        taker_buy_notional = c.taker_buy_notional + excluded.taker_buy_notional,
        trades = c.trades + excluded.trades,
        last_trade_id = excluded.last_trade_id";
