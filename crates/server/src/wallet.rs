//! The wallet: what an account has, and money in, out and across.
//!
//! Invariant: every movement is a command of the journal. A key on these routes holds for ever.

mod addresses;
mod leave;
mod money;
pub(crate) mod withdraw;

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::AssetConfig;
use serde::{Deserialize, Serialize};
use store::lookup::{self, MoneyRow};
use units::{Amount, AssetId, CommandId, Time};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use wire::DecimalInput;
use wire::body::{Balance, Page};
use wire::order::FieldError;
use wire::time::Timestamp;

use crate::app::App;
use crate::body::{Query, page_size};
use crate::edge::{Context, with_sequence};
use crate::orders::{cursor, min_projected};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(balances))
        .routes(routes!(transactions))
        .routes(routes!(money::deposit))
        .routes(routes!(money::transfer))
        .routes(routes!(withdraw::request, withdraw::list))
        .routes(routes!(withdraw::one, withdraw::cancel))
        .routes(routes!(addresses::list, addresses::add, addresses::set))
        .routes(routes!(addresses::remove))
}

/// What an account has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Balances {
    /// The wallet's address, for transfers from other users.
    #[schema(example = "kx1…")]
    address: String,
    /// The balances of every asset that the account ever had.
    balances: Vec<Balance>,
    /// The journal row that this shows.
    sequence: u64,
}

/// Shows the balances, from the followed state.
#[utoipa::path(get, path = "/api/v1/wallet/balances", tag = "Wallet", security(("bearer" = [])), responses(
    (status = 200, body = Balances), (status = 401, body = ProblemBody)))]
async fn balances(State(app): State<App>, principal: Principal) -> Response {
    let (balances, sequence) = app.live.read(|state| {
        let of = |(asset, balance): (AssetId, units::Balance)| {
            let config = state.assets().get(usize::from(asset.get()))?;
            Some(wire::render::balance(config, balance))
        };
        (state.balances(principal.account).filter_map(of).collect(), state.sequence())
    });
    let address = wire::address::format(principal.account);
    let body = Balances { address, balances, sequence: sequence.get() };
    with_sequence(&app, sequence, Out(body).into_response())
}

/// Money that came in, went out or across.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transaction {
    /// The id.
    id: Uuid,
    /// `deposit`, `withdrawal`, `transfer_in` or `transfer_out`.
    kind: String,
    /// The asset.
    asset: String,
    /// How much.
    amount: String,
    /// `credited`, `completed`, a withdrawal's state, `rejected` or `expired`.
    status: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The address of the account on the other side of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    counterparty: Option<String>,
    /// When.
    created_at: Timestamp,
}

impl Transaction {
    pub(crate) fn of(assets: &[AssetConfig], row: &MoneyRow) -> Result<Self, Problem> {
        let asset = config(assets, row.asset)?;
        Ok(Self {
            id: row.id,
            kind: row.kind.clone(),
            asset: asset.symbol.to_string(),
            amount: wire::decimal::format_amount(asset, row.amount),
            status: row.status.clone(),
            reason: row.reason.clone(),
            counterparty: row.other.map(wire::address::format),
            created_at: row.created_at.into(),
        })
    }

    fn new(
        assets: &[AssetConfig],
        id: CommandId,
        kind: &str,
        (asset, amount): (AssetId, Amount),
        status: &str,
        created_at: Time,
    ) -> Result<Self, Problem> {
        let asset = config(assets, asset)?;
        Ok(Self {
            id: wire::id::to_uuid(id),
            kind: kind.to_owned(),
            asset: asset.symbol.to_string(),
            amount: wire::decimal::format_amount(asset, amount),
            status: status.to_owned(),
            reason: None,
            counterparty: None,
            created_at: created_at.into(),
        })
    }
}

/// Which movements.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TransactionsQuery {
    /// Of one asset alone.
    asset: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists deposits, withdrawals and transfers, newest first. Trades are in `fills`.
#[utoipa::path(get, path = "/api/v1/wallet/transactions", tag = "Wallet", security(("bearer" = [])),
    params(TransactionsQuery), responses(
    (status = 200, body = Page<Transaction>), (status = 422, body = ProblemBody)))]
async fn transactions(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Query(query): Query<TransactionsQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let after = cursor::read(query.cursor.as_deref())?;
    let symbol = query.asset.as_deref();
    let asset = symbol.map(|symbol| asset(&app, Some(symbol))).transpose()?.map(|(id, _)| id);
    min_projected(&app, &context).await?;
    let mut rows = lookup::movements(&app.db, principal.account, asset, after, size + 1)
        .await
        .map_err(|error| Problem::unavailable("cannot list movements", &error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.sequence, row.id));
    let items = app.live.read(|state| {
        rows.iter().map(|row| Transaction::of(state.assets(), row)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Out(Page { items, next_cursor }).into_response())
}

/// Finds an asset by its symbol.
fn asset(app: &App, symbol: Option<&str>) -> Result<(AssetId, AssetConfig), Problem> {
    let symbol = symbol.ok_or_else(|| Problem::value("asset", "required", "is required"))?;
    app.live.read(|state| {
        let found = state.asset_by_symbol(symbol);
        let found = found.and_then(|id| Some((id, state.assets().get(usize::from(id.get()))?)));
        match found {
            Some((id, config)) => Ok((id, config.clone())),
            None => {
                let rule = "must be one of the exchange's assets";
                let problem = Problem::value("asset", "asset_unknown", rule);
                let symbols = state.assets().iter().take(16).map(|asset| &*asset.symbol);
                Err(symbols.fold(problem, |problem, symbol| problem.nearest(symbol)))
            }
        }
    })
}

/// Reads an amount to deposit, withdraw or transfer.
fn amount(asset: &AssetConfig, text: Option<&DecimalInput>) -> Result<Amount, Problem> {
    let text = text.ok_or_else(|| Problem::value("amount", "required", "is required"))?;
    wire::decimal::parse_transfer_amount(asset, text.as_str())
        .map_err(|error| FieldError::decimal("amount", &error).into())
}

fn config(assets: &[AssetConfig], asset: AssetId) -> Result<&AssetConfig, Problem> {
    assets.get(usize::from(asset.get())).ok_or_else(|| {
        tracing::error!(%asset, "an asset that a row names is not in the state");
        Problem::new(Code::Defect)
    })
}

/// Says how much is available, where that was not enough.
fn refused(app: &App, principal: &Principal, asset: AssetId, reject: engine::Reject) -> Problem {
    let problem = Problem::refused(reject);
    if reject != engine::Reject::InsufficientFunds {
        return problem;
    }
    app.live.read(|state| {
        let available = state.balance(principal.account, asset).available;
        match config(state.assets(), asset) {
            Ok(config) => {
                let text = wire::decimal::format_amount(config, available);
                let rule = format!("must be at most what is available, {text} {}", config.symbol);
                problem.with_error("amount", reject.code(), rule).nearest(text)
            }
            Err(problem) => problem,
        }
    })
}
