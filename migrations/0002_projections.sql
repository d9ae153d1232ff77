-- The projections: rows made from the journal, in a schema per generation, behind views in the public schema.
--
-- A rebuild makes the next generation with projection_tables_create(), fills it from the journal, and points the views
-- at it with projection_views_point(); both resolve unqualified names in the generation that they are given. A later
-- change of a projection replaces these functions and alters the tables of the generation in use.

CREATE TABLE projection_progress (
    generation text PRIMARY KEY,
    active boolean NOT NULL DEFAULT false,
    sequence bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    time timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00Z',
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(hash) = 32),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX projection_progress_active ON projection_progress (active) WHERE active;
COMMENT ON TABLE projection_progress IS
    'Up to which journal row each generation says what the journal says; moved in the writing transaction.';

-- Exact: a multiplication of NUMERIC keeps every digit, a division would not.
CREATE FUNCTION ledger_decimal(units numeric, scale int) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT units * ('1e-' || scale)::numeric $$;

CREATE FUNCTION projection_tables_create(generation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE SCHEMA %I', generation);
    PERFORM set_config('search_path', quote_ident(generation) || ', public', true);

    CREATE TABLE assets (
        id int PRIMARY KEY,
        symbol text NOT NULL UNIQUE,
        scale int NOT NULL CHECK (scale >= 0),
        transfer_scale int NOT NULL CHECK (transfer_scale BETWEEN 0 AND scale),
        defined_in bigint NOT NULL
    );

    CREATE TABLE markets (
        id int PRIMARY KEY,
        symbol text NOT NULL UNIQUE,
        base_asset_id int NOT NULL,
        quote_asset_id int NOT NULL,
        base_units_per_lot numeric(20) NOT NULL CHECK (base_units_per_lot > 0),
        quote_units_per_tick_lot numeric(20) NOT NULL CHECK (quote_units_per_tick_lot > 0),
        tick_size numeric NOT NULL,
        lot_size numeric NOT NULL,
        notional_min_units numeric(39) NOT NULL,
        quantity_max_lots numeric(20) NOT NULL,
        maker_fee_ppm bigint NOT NULL,
        taker_fee_ppm bigint NOT NULL,
        band_ppm bigint,
        halt_move_ppm bigint,
        initial_price_ticks numeric(20),
        state text NOT NULL CHECK (state IN ('open', 'cancel_only', 'post_only', 'halted')),
        last_price_ticks numeric(20) CHECK (last_price_ticks > 0),
        defined_in bigint NOT NULL
    ) WITH (fillfactor = 50);

    CREATE TABLE accounts (
        id bigint PRIMARY KEY,
        locked boolean NOT NULL DEFAULT false,
        withdrawals_frozen boolean NOT NULL DEFAULT false,
        market_maker boolean NOT NULL DEFAULT false,
        closed boolean NOT NULL DEFAULT false,
        opened_at timestamptz NOT NULL,
        opened_in bigint NOT NULL
    );

    CREATE TABLE balances (
        account_id bigint NOT NULL,
        asset_id int NOT NULL,
        available numeric(39) NOT NULL CHECK (available >= 0),
        held numeric(39) NOT NULL CHECK (held >= 0),
        account_sequence bigint NOT NULL,
        updated_in bigint NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, asset_id)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5);

    CREATE TABLE orders (
        id uuid PRIMARY KEY,
        order_id bigint,
        account_id bigint NOT NULL,
        market_id int NOT NULL,
        side text NOT NULL CHECK (side IN ('buy', 'sell')),
        order_type text NOT NULL CHECK (order_type IN ('limit', 'market', 'stop_limit', 'stop_market')),
        time_in_force text NOT NULL CHECK (time_in_force IN ('gtc', 'ioc', 'fok', 'gtd')),
        good_till timestamptz,
        post_only boolean NOT NULL,
        price_ticks numeric(20) CHECK (price_ticks > 0),
        quantity_lots numeric(20) NOT NULL CHECK (quantity_lots >= 0),
        quote_amount numeric(39) CHECK (quote_amount >= 0),
        filled_lots numeric(20) NOT NULL CHECK (filled_lots >= 0),
        filled_notional numeric(39) NOT NULL CHECK (filled_notional >= 0),
        trigger_ticks numeric(20) CHECK (trigger_ticks > 0),
        triggered boolean NOT NULL,
        display_lots numeric(20),
        self_trade_prevention text NOT NULL,
        client_order_id text,
        -- Never 'pending': the planner then skips this table where pending orders are asked for.
        status text NOT NULL CHECK (status IN
            ('open', 'partially_filled', 'filled', 'cancelled', 'expired', 'rejected')),
        reason text,
        created_at timestamptz NOT NULL,
        created_in bigint NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_in bigint NOT NULL,
        account_sequence bigint NOT NULL,
        CHECK (quantity_lots = 0 OR filled_lots <= quantity_lots)
    ) WITH (fillfactor = 85);
    CREATE INDEX orders_account ON orders (account_id, created_at, id);

    CREATE TABLE trades (
        market_id int NOT NULL,
        trade_id bigint NOT NULL,
        sequence bigint NOT NULL,
        command_index int NOT NULL,
        time timestamptz NOT NULL,
        price_ticks numeric(20) NOT NULL CHECK (price_ticks > 0),
        quantity_lots numeric(20) NOT NULL CHECK (quantity_lots > 0),
        notional numeric(39) NOT NULL CHECK (notional > 0),
        taker_side text NOT NULL CHECK (taker_side IN ('buy', 'sell')),
        taker_order uuid NOT NULL,
        taker_order_id bigint NOT NULL,
        taker_account_id bigint NOT NULL,
        taker_fee numeric(39) NOT NULL CHECK (taker_fee >= 0),
        taker_fee_asset_id int NOT NULL,
        taker_account_sequence bigint NOT NULL,
        maker_order uuid NOT NULL,
        maker_order_id bigint NOT NULL,
        maker_account_id bigint NOT NULL,
        maker_fee numeric(39) NOT NULL CHECK (maker_fee >= 0),
        maker_fee_asset_id int NOT NULL,
        maker_account_sequence bigint NOT NULL,
        PRIMARY KEY (market_id, trade_id)
    );
    CREATE INDEX trades_taker ON trades (taker_account_id, taker_account_sequence);
    CREATE INDEX trades_maker ON trades (maker_account_id, maker_account_sequence);

    CREATE TABLE postings (
        sequence bigint NOT NULL,
        posting int NOT NULL,
        command_index int NOT NULL,
        kind text NOT NULL,
        reference uuid NOT NULL,
        market_id int,
        trade_id bigint,
        time timestamptz NOT NULL,
        account_id bigint NOT NULL,
        asset_id int NOT NULL,
        amount numeric(39) NOT NULL,
        PRIMARY KEY (sequence, posting)
    );
    CREATE INDEX postings_account ON postings (account_id, sequence, posting);
    CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE ON postings
        FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
    CREATE TRIGGER postings_no_truncate BEFORE TRUNCATE ON postings
        FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

    CREATE TABLE deposits (
        id uuid PRIMARY KEY,
        account_id bigint NOT NULL,
        asset_id int NOT NULL,
        amount numeric(39) NOT NULL,
        reference uuid NOT NULL,
        sandbox boolean NOT NULL,
        status text NOT NULL CHECK (status IN ('credited', 'rejected', 'expired')),
        reason text,
        sequence bigint NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE INDEX deposits_account ON deposits (account_id, sequence);

    CREATE TABLE transfers (
        id uuid PRIMARY KEY,
        from_account_id bigint NOT NULL,
        to_account_id bigint NOT NULL,
        asset_id int NOT NULL,
        amount numeric(39) NOT NULL,
        status text NOT NULL CHECK (status IN ('completed', 'rejected', 'expired')),
        reason text,
        sequence bigint NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE INDEX transfers_from ON transfers (from_account_id, sequence);
    CREATE INDEX transfers_to ON transfers (to_account_id, sequence);

    CREATE TABLE withdrawals (
        id uuid PRIMARY KEY,
        account_id bigint NOT NULL,
        asset_id int NOT NULL,
        amount numeric(39) NOT NULL,
        destination uuid NOT NULL,
        status text NOT NULL CHECK (status IN ('requested', 'approved', 'sending', 'settled', 'failed',
            'cancelled', 'rejected', 'expired')),
        reason text,
        sequence bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_in bigint NOT NULL,
        updated_at timestamptz NOT NULL,
        account_sequence bigint NOT NULL
    );
    CREATE INDEX withdrawals_account ON withdrawals (account_id, sequence);

    CREATE TABLE market_candles (
        market_id int NOT NULL,
        interval_seconds int NOT NULL CHECK (interval_seconds IN (60, 3600, 86400)),
        open_time timestamptz NOT NULL,
        open_ticks numeric(20) NOT NULL,
        high_ticks numeric(20) NOT NULL,
        low_ticks numeric(20) NOT NULL,
        close_ticks numeric(20) NOT NULL,
        volume_lots numeric(39) NOT NULL,
        volume_notional numeric(39) NOT NULL,
        taker_buy_lots numeric(39) NOT NULL,
        taker_buy_notional numeric(39) NOT NULL,
        trades bigint NOT NULL CHECK (trades > 0),
        first_trade_id bigint NOT NULL,
        last_trade_id bigint NOT NULL,
        PRIMARY KEY (market_id, interval_seconds, open_time),
        CHECK (low_ticks <= open_ticks AND low_ticks <= close_ticks
            AND open_ticks <= high_ticks AND close_ticks <= high_ticks)
    ) WITH (fillfactor = 50);
END
$$;

-- Decimals are computed columns beside the plain ones: the plain columns of a view of one table stay writable.
CREATE FUNCTION projection_views_point(generation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', quote_ident(generation) || ', public', true);

    CREATE OR REPLACE VIEW public.assets AS SELECT * FROM assets;
    CREATE OR REPLACE VIEW public.accounts AS SELECT * FROM accounts;
    CREATE OR REPLACE VIEW public.balances AS SELECT * FROM balances;
    CREATE OR REPLACE VIEW public.postings AS SELECT * FROM postings;
    CREATE OR REPLACE VIEW public.deposits AS SELECT * FROM deposits;
    CREATE OR REPLACE VIEW public.transfers AS SELECT * FROM transfers;
    CREATE OR REPLACE VIEW public.withdrawals AS SELECT * FROM withdrawals;
    CREATE OR REPLACE VIEW public.market_candles AS SELECT * FROM market_candles;

    CREATE OR REPLACE VIEW public.markets AS SELECT * FROM markets;

    CREATE OR REPLACE VIEW public.trades AS
        SELECT t.*,
            (SELECT t.price_ticks * m.tick_size FROM markets m WHERE m.id = t.market_id) AS price,
            (SELECT t.quantity_lots * m.lot_size FROM markets m WHERE m.id = t.market_id) AS quantity
        FROM trades t;

    CREATE OR REPLACE VIEW public.orders_projected AS SELECT * FROM orders;

    -- Every column of both parts has the same type, to the letter: only then does the planner look into the parts, use
    -- their indexes for the order, skip columns that nobody asked for, and a part that cannot have the status.
    CREATE OR REPLACE VIEW public.orders AS
        SELECT o.*,
            (SELECT m.symbol FROM markets m WHERE m.id = o.market_id) AS market,
            (SELECT o.price_ticks * m.tick_size FROM markets m WHERE m.id = o.market_id) AS price,
            (SELECT o.quantity_lots * m.lot_size FROM markets m WHERE m.id = o.market_id) AS quantity,
            (SELECT o.filled_lots * m.lot_size FROM markets m WHERE m.id = o.market_id) AS filled
        FROM orders o
        UNION ALL
        SELECT p.id, NULL::bigint, p.account_id, p.market_id, p.side, p.order_type, p.time_in_force, p.good_till,
            p.post_only, p.price_ticks, p.quantity_lots, p.quote_amount, 0::numeric(20), 0::numeric(39),
            p.trigger_ticks, false, p.display_lots, p.self_trade_prevention, p.client_order_id,
            -- Once the projection is past the expiry, whatever is still to be decided will be refused.
            CASE WHEN (SELECT g.time > p.expires_at FROM projection_progress g WHERE g.active)
                THEN 'expired'::text ELSE 'pending'::text END,
            NULL::text, p.created_at, NULL::bigint, p.created_at, NULL::bigint, 0::bigint,
            (SELECT m.symbol FROM markets m WHERE m.id = p.market_id),
            (SELECT p.price_ticks * m.tick_size FROM markets m WHERE m.id = p.market_id),
            (SELECT p.quantity_lots * m.lot_size FROM markets m WHERE m.id = p.market_id),
            0::numeric
        FROM public.pending_commands p
        WHERE p.kind = 'place_order' AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.id);

    CREATE OR REPLACE VIEW public.wallets AS
        SELECT b.account_id, b.asset_id, a.symbol AS asset,
            b.available + b.held AS balance, b.available, b.held,
            ledger_decimal(b.available + b.held, a.scale) AS balance_decimal,
            ledger_decimal(b.available, a.scale) AS available_decimal,
            ledger_decimal(b.held, a.scale) AS held_decimal,
            CASE WHEN a.symbol = 'USD' THEN ledger_decimal(b.available + b.held, a.scale)
            ELSE (
                SELECT ledger_decimal(
                    (b.available + b.held) * m.last_price_ticks * m.quote_units_per_tick_lot / m.base_units_per_lot,
                    q.scale)
                FROM markets m JOIN assets q ON q.id = m.quote_asset_id
                WHERE m.base_asset_id = b.asset_id AND q.symbol = 'USD' AND m.last_price_ticks IS NOT NULL
                ORDER BY m.id LIMIT 1)
            END AS balance_usd,
            b.account_sequence, b.updated_in, b.updated_at
        FROM balances b JOIN assets a ON a.id = b.asset_id;

    PERFORM set_config('search_path', 'public', true);
END
$$;

SELECT projection_tables_create('projected_1');
SELECT projection_views_point('projected_1');
INSERT INTO projection_progress (generation, active) VALUES ('projected_1', true);
