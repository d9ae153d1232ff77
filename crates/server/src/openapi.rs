//! The API's description, made from the handlers themselves: OpenAPI 3.1.

mod refusals;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, response::Redirect};
use std::sync::Arc;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi};

use crate::access::{self, Access};
use crate::docs;
use crate::problem::{Broken, ProblemBody};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "KrystalineX",
        description = "A crypto exchange whose every trade can be seen through. Amounts and prices are decimal \
            strings (numbers are taken digit by digit), times are RFC 3339 in UTC, ids are UUIDs. A refusal is an RFC 9457 \
            problem with a stable `code`. Mutations take an `Idempotency-Key`: the same key and body give the first answer \
            again. Answers carry `X-Sequence`; a read with `X-Min-Sequence` waits until it can show that row.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "Auth", description = "Register, log in, stay logged in"),
        (name = "Account", description = "Profile, e-mail address, data export, closing"),
        (name = "Keys", description = "Keys that sign requests of programs"),
        (name = "Wallet", description = "Balances, and money in, out and across"),
        (name = "Orders", description = "Place, see, change and cancel orders; fills"),
        (name = "Markets", description = "What everybody can see"),
        (name = "Convert", description = "A quote from the book, and a fill-or-kill order at its price"),
        (name = "Health", description = "What machines ask"),
        (name = "Admin", description = "For the exchange's own people")
    ),
    components(schemas(ProblemBody, Broken)),
    modifiers(&Security)
)]
pub(crate) struct Api;

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "An access token of `auth/login` or `auth/refresh`, good for 5 minutes.",
            ))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        for (name, header, text) in [
            ("key", "X-Kx-Key", "The key's id."),
            ("keyTimestamp", "X-Kx-Timestamp", "Milliseconds since 1970, at most 5 seconds off."),
            (
                "keySignature",
                "X-Kx-Signature",
                "HMAC-SHA256 in hexadecimal, with the key's secret, of timestamp, method, path with query, and the body's \
                 SHA-256 in hexadecimal, a line feed between; and the Idempotency-Key as a fifth line where there is one.",
            ),
        ] {
            let value = ApiKeyValue::with_description(header, text);
            components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(value)));
        }
    }
}

/// Completes what the handlers say with what the edge does for all of them: keys, and its refusals.
pub(crate) fn complete(openapi: &mut utoipa::openapi::OpenApi) {
    allow_keys(openapi);
    refusals::add(openapi);
}

/// Says of every route that takes keys that it does, and with which scope.
fn allow_keys(openapi: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut openapi.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            let (Some(operation), Some(Access::Scope(scope))) =
                (operation.as_mut(), access::of(method, path))
            else {
                continue;
            };
            let none = Vec::<String>::new;
            let signed = SecurityRequirement::default()
                .add("key", scope.names())
                .add("keyTimestamp", none())
                .add("keySignature", none());
            operation.security.get_or_insert_default().push(signed);
        }
    }
}

/// What is served of the description: made once, when the router is.
struct Pages {
    json: String,
    html: String,
}

/// Serves the description and its human page.
pub(crate) fn pages(openapi: &utoipa::openapi::OpenApi) -> Router<crate::App> {
    let json = openapi.to_pretty_json().expect("the description is plain data");
    let html = docs::page(&serde_json::from_str(&json).expect("what was just written can be read"));
    let pages = Arc::new(Pages { json, html });
    let routes = Router::new()
        .route("/api/v1/openapi.json", get(json_page))
        .route("/docs", get(html_page))
        .with_state(pages);
    Router::new()
        .merge(routes)
        .route("/docs/style.css", get(async || docs::style()))
        .route("/docs/script.js", get(async || docs::script()))
        .route("/", get(async || Redirect::temporary("/docs")))
}

async fn json_page(State(pages): State<Arc<Pages>>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], pages.json.clone()).into_response()
}

async fn html_page(State(pages): State<Arc<Pages>>) -> Response {
    docs::html(pages.html.clone())
}
