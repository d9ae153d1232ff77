//! The API's description, made from the handlers themselves: OpenAPI 3.1.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, response::Redirect};
use std::sync::Arc;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

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
        (name = "Wallet", description = "Balances, and money in, out and across"),
        (name = "Orders", description = "Place, see, change and cancel orders; fills"),
        (name = "Markets", description = "What everybody can see"),
        (name = "Convert", description = "A quote from the book, and a fill-or-kill order at its price"),
        (name = "Health", description = "What machines ask")
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
