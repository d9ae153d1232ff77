//! The bytes of a snapshot's records.

use engine::{OrderRecord, Record, WithdrawalState};

use super::{fields, variants};

variants!(Record, "an unknown record" {
    1 => Head { sequence, time, settings, limits, arrivals },
    2 => Asset { config, outside },
    3 => Market {
        config, state, last_order_id, last_trade_id, update_id, last_price, halt_due
    },
    4 => TradeSecond { market, second, tick_lots, lots, reference_before },
    5 => Account { id, flags, account_sequence, rate_second, rate_count },
    6 => Balance { asset, balance },
    7 => Order(order),
    8 => ClosedClientId { account, client_order_id, order, body_hash, closed_at },
    9 => Known { id, body_hash, outcome, time },
    10 => RememberedCancel { order, account, expires_at },
    11 => Sweep { account, market, before_arrival },
    12 => Withdrawal { id, account, asset, amount, state },
    13 => DepositReference(reference),
    14 => End { records },
    15 => AuditHead(head),
});

variants!(WithdrawalState, "an unknown state of a withdrawal" {
    0 => Requested,
    1 => Approved,
    2 => Sending,
    3 => Settled,
    4 => Failed,
    5 => Cancelled,
});

fields!(OrderRecord {
    id,
    order_id,
    market,
    account,
    side,
    order_type,
    time_in_force,
    post_only,
    self_trade_prevention,
    price,
    quantity,
    filled,
    filled_notional,
    visible,
    display,
    trigger,
    waits,
    hold,
    client_order_id,
    body_hash,
    created_at,
    created_in,
    arrival,
});
