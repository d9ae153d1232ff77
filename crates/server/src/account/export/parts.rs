//! The parts of an export, read page by page.

use serde::Serialize;
use serde_json::{Map, Value, json};
use store::lookup::{self, OrderPage};
use store::sessions;
use store::users::User;
use units::Time;
use uuid::Uuid;

use super::Ended;
use crate::account::profile::Profile;
use crate::app::App;
use crate::auth::sessions::{SESSIONS_MAX, SessionItem};
use crate::orders::render;
use crate::problem::{Problem, chain};
use crate::wallet;

const PAGE_ROWS: usize = 500;

/// A part of an export.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Its columns in CSV.
    pub(super) columns: &'static [&'static str],
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Profile,
    Sessions,
    Balances,
    Transactions,
    Withdrawals,
    Orders,
    Fills,
}

/// Every part, in the order of the JSON.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "profile",
        columns: &[
            "id",
            "email",
            "displayName",
            "address",
            "twoFactor",
            "withdrawalsFrozenUntil",
            "passwordChangedAt",
            "createdAt",
        ],
        what: What::Profile,
    },
    Part {
        name: "sessions",
        columns: &["id", "device", "userAgent", "address", "createdAt", "lastUsedAt", "expiresAt"],
        what: What::Sessions,
    },
    Part {
        name: "balances",
        columns: &["asset", "available", "held", "total"],
        what: What::Balances,
    },
    Part {
        name: "transactions",
        columns: &[
            "createdAt",
            "kind",
            "asset",
            "amount",
            "status",
            "reason",
            "counterparty",
            "id",
        ],
        what: What::Transactions,
    },
    Part {
        name: "withdrawals",
        columns: &[
            "createdAt",
            "updatedAt",
            "asset",
            "amount",
            "state",
            "reason",
            "destination",
            "id",
        ],
        what: What::Withdrawals,
    },
    Part {
        name: "orders",
        columns: &[
            "createdAt",
            "market",
            "side",
            "orderType",
            "timeInForce",
            "price",
            "quantity",
            "quoteAmount",
            "filledQuantity",
            "filledNotional",
            "averagePrice",
            "status",
            "reason",
            "clientOrderId",
            "id",
        ],
        what: What::Orders,
    },
    Part {
        name: "fills",
        columns: &[
            "time",
            "market",
            "side",
            "price",
            "quantity",
            "notional",
            "fee",
            "feeAsset",
            "liquidity",
            "orderId",
            "tradeId",
        ],
        what: What::Fills,
    },
];

/// Where the next page of a part begins.
#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    Start,
    After(u64, Uuid),
    End,
}

/// Reads one part after the other.
pub(super) struct Reader {
    app: App,
    user: User,
    session: Uuid,
    at: At,
}

type Rows = Vec<Map<String, Value>>;

impl Reader {
    pub(super) fn new(app: App, user: User, session: Uuid) -> Self {
        Self { app, user, session, at: At::Start }
    }

    /// Returns the next page of a part; `None` after its last, and the next call begins the next part.
    pub(super) async fn next(&mut self, part: &Part) -> Result<Option<Rows>, Ended> {
        if matches!(self.at, At::End) {
            self.at = At::Start;
            return Ok(None);
        }
        let read = match part.what {
            What::Profile => Ok(vec![map(&Profile::from(self.user.clone()))]),
            What::Sessions => self.sessions().await,
            What::Balances => Ok(self.balances()),
            What::Transactions => self.transactions().await,
            What::Withdrawals => self.withdrawals().await,
            What::Orders => self.orders().await,
            What::Fills => self.fills().await,
        };
        let rows = read.map_err(|problem| {
            tracing::error!(
                code = problem.code().name(),
                part = part.name,
                "an export was cut off"
            );
            Ended
        })?;
        let paged = matches!(
            part.what,
            What::Transactions | What::Withdrawals | What::Orders | What::Fills
        );
        if !paged || rows.len() < PAGE_ROWS {
            self.at = At::End;
        }
        Ok(Some(rows))
    }

    fn after(&self) -> Option<(u64, Uuid)> {
        match self.at {
            At::After(major, minor) => Some((major, minor)),
            At::Start | At::End => None,
        }
    }

    /// Remembers where a page ends.
    fn note<T>(&mut self, rows: &[T], of: impl Fn(&T) -> (u64, Uuid)) {
        if let Some(last) = rows.last() {
            let (major, minor) = of(last);
            self.at = At::After(major, minor);
        }
    }

    async fn sessions(&self) -> Result<Rows, Problem> {
        let rows = sessions::of_user(&self.app.db, self.user.id, SESSIONS_MAX)
            .await
            .map_err(|error| unavailable(&error))?;
        let row = |row: &sessions::SessionRow| {
            let mut map = map(&SessionItem::of(row, self.session));
            map.insert("userAgent".to_owned(), json!(row.user_agent));
            map
        };
        Ok(rows.iter().map(row).collect())
    }

    fn balances(&self) -> Rows {
        self.app.live.read(|state| {
            let of = |(asset, balance): (units::AssetId, units::Balance)| {
                let config = state.assets().get(usize::from(asset.get()))?;
                Some(map(&wire::render::balance(config, balance)))
            };
            state.balances(self.user.account).filter_map(of).collect()
        })
    }

    async fn transactions(&mut self) -> Result<Rows, Problem> {
        let (account, after) = (self.user.account, self.after());
        let rows = lookup::movements(&self.app.db, account, None, after, PAGE_ROWS)
            .await
            .map_err(|error| unavailable(&error))?;
        self.note(&rows, |row| (row.sequence, row.id));
        self.app.live.read(|state| {
            let row = |row| wallet::Transaction::of(state.assets(), row).map(|body| map(&body));
            rows.iter().map(row).collect()
        })
    }

    async fn withdrawals(&mut self) -> Result<Rows, Problem> {
        let (account, after) = (self.user.account, self.after());
        let rows = lookup::withdrawals(&self.app.db, account, after, PAGE_ROWS)
            .await
            .map_err(|error| unavailable(&error))?;
        self.note(&rows, |row| (row.sequence, row.id));
        self.app.live.read(|state| {
            let row =
                |row| wallet::withdraw::Withdrawal::of(state.assets(), row).map(|body| map(&body));
            rows.iter().map(row).collect()
        })
    }

    async fn orders(&mut self) -> Result<Rows, Problem> {
        let page = OrderPage {
            account: self.user.account,
            market: None,
            statuses: None,
            after: self.after().map(|(micros, id)| (Time::from_micros(micros), id)),
            rows_max: PAGE_ROWS,
        };
        let rows =
            lookup::orders(&self.app.db, &page).await.map_err(|error| unavailable(&error))?;
        self.note(&rows, |row| (row.created_at.micros(), row.id));
        self.app.live.read(|state| {
            rows.iter().map(|row| render::row(state, row).map(|body| map(&body))).collect()
        })
    }

    async fn fills(&mut self) -> Result<Rows, Problem> {
        let before = self.after().map(|(sequence, _)| sequence);
        let rows = lookup::fills(&self.app.db, self.user.account, None, None, before, PAGE_ROWS)
            .await
            .map_err(|error| unavailable(&error))?;
        self.note(&rows, |row| (row.account_sequence, row.order));
        self.app.live.read(|state| {
            rows.iter().map(|row| render::fill_row(state, row).map(|body| map(&body))).collect()
        })
    }
}

fn unavailable(error: &store::StoreError) -> Problem {
    tracing::error!(error = %chain(error), "cannot read a page of an export");
    Problem::new(crate::problem::Code::Unavailable)
}

fn map(body: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(body) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}
