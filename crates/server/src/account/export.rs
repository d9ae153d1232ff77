//! Everything that is kept of a user, for the user: as JSON, or one part of it as CSV.
//!
//! Invariant: an export is read page by page while it is sent, so that memory does not grow with it; few run at once, and one
//! whose reader is too slow is cut off.

mod parts;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::audit::Level;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::profile;
use crate::app::App;
use crate::auth::audit;
use crate::body::Query;
use crate::edge::Context;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;
use parts::{PARTS, Part, Reader};

/// How long a reader may take for one page.
const PAGE_MAX: Duration = Duration::from_secs(20);
/// How long an export may take in all.
const EXPORT_MAX: Duration = Duration::from_secs(10 * 60);
/// Pages that wait for the reader.
const PAGES_AHEAD: usize = 2;

/// What is to be exported.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `json` (unless given), or `csv`.
    format: Option<String>,
    /// For CSV, one of `profile`, `sessions`, `balances`, `transactions`, `withdrawals`, `orders`, `fills`; `transactions` unless given.
    part: Option<String>,
}

/// What is written.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv(&'static Part),
}

/// Exports everything that is kept of the user. JSON has all of it; CSV has one part, and opens inert in a spreadsheet.
#[utoipa::path(get, path = "/api/v1/account/export", tag = "Account", security(("bearer" = [])), params(ExportQuery),
    responses((status = 200, description = "The export, as an attachment"), (status = 401, body = ProblemBody),
    (status = 422, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn export(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let format = format(&query)?;
    let user = profile::find(&app, &principal).await?;
    let Ok(place) = Arc::clone(&app.exports).try_acquire_owned() else {
        return Err(Problem::new(Code::TooManyRequests).retry_after(5));
    };
    audit(&app, &context, Level::Info, "account.exported", Some(user.id));
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let reader = Reader::new(app, user, principal.session);
    tokio::spawn(async move {
        let writing = write(reader, format, &sender);
        let ended = tokio::time::timeout(EXPORT_MAX, writing).await;
        if !matches!(ended, Ok(Ok(()))) {
            // The connection is cut, so that nobody takes a part for the whole.
            let _ = sender.try_send(Err(std::io::Error::other("the export could not be finished")));
        }
        drop(place);
    });
    let pages = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|page| (page, receiver))
    });
    let (kind, name) = match format {
        Format::Json => ("application/json", "krystalinex.json".to_owned()),
        Format::Csv(part) => ("text/csv; charset=utf-8", format!("krystalinex-{}.csv", part.name)),
    };
    let mut response = Body::from_stream(pages).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

fn format(query: &ExportQuery) -> Result<Format, Problem> {
    let refused = |field, words: &str| {
        Problem::value(field, "unknown_value", format!("must be one of {words}"))
    };
    match (query.format.as_deref(), query.part.as_deref()) {
        (None | Some("json"), None) => Ok(Format::Json),
        (None | Some("json"), Some(_)) => Err(refused("part", "those of CSV; JSON has all parts")),
        (Some("csv"), part) => {
            let name = part.unwrap_or("transactions");
            let found = PARTS.iter().find(|part| part.name == name);
            let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
            found.map(Format::Csv).ok_or_else(|| refused("part", &names.join(", ")))
        }
        (Some(_), _) => Err(refused("format", "json, csv")),
    }
}

type Pages = mpsc::Sender<std::io::Result<Bytes>>;

/// Why an export ended early: it has been logged, or nobody reads it.
struct Ended;

async fn write(mut reader: Reader, format: Format, pages: &Pages) -> Result<(), Ended> {
    match format {
        Format::Json => {
            send(pages, b"{".to_vec()).await?;
            for (at, part) in PARTS.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                send(pages, format!("{comma}\"{}\":[", part.name).into_bytes()).await?;
                let mut first = true;
                while let Some(rows) = reader.next(part).await? {
                    let mut text = Vec::new();
                    for row in rows {
                        if !std::mem::take(&mut first) {
                            text.push(b',');
                        }
                        serde_json::to_writer(&mut text, &row).map_err(|_| Ended)?;
                    }
                    send(pages, text).await?;
                }
                send(pages, b"]".to_vec()).await?;
            }
            send(pages, b"}\n".to_vec()).await
        }
        Format::Csv(part) => {
            send(pages, csv_row(part.columns.iter().map(|name| (*name).to_owned()))).await?;
            while let Some(rows) = reader.next(part).await? {
                let text: Vec<u8> = rows.iter().flat_map(|row| csv_row(cells(part, row))).collect();
                send(pages, text).await?;
            }
            Ok(())
        }
    }
}

async fn send(pages: &Pages, text: Vec<u8>) -> Result<(), Ended> {
    if text.is_empty() {
        return Ok(());
    }
    let sending = pages.send_timeout(Ok(Bytes::from(text)), PAGE_MAX);
    sending.await.map_err(|_| Ended)
}

fn cells<'a>(part: &'a Part, row: &'a Map<String, Value>) -> impl Iterator<Item = String> + 'a {
    part.columns.iter().map(|name| match row.get(*name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    })
}

/// Writes a line (RFC 4180).
fn csv_row(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let cells: Vec<_> = cells.map(|cell| csv_cell(&cell)).collect();
    format!("{}\r\n", cells.join(",")).into_bytes()
}

/// Writes a cell so that no spreadsheet takes it for a formula, and no line break for another row.
fn csv_cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_open_inert_in_a_spreadsheet() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=cmd|'/c calc'!A1", "\"'=cmd|'/c calc'!A1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\tx", "\"'\tx\""),
            ("\rx", "\"'\rx\""),
            ("", ""),
        ] {
            assert_eq!(csv_cell(text), cell, "{text:?}");
        }
        let row = csv_row(["a".to_owned(), "=b".to_owned()].into_iter());
        assert_eq!(row, b"a,\"'=b\"\r\n");
    }
}
