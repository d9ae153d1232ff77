//! The development inbox over HTTP: a plain page, and the mails in MailDev's JSON shape.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use units::Time;

use crate::mail::letter::escape;
use crate::mail::{Inbox, Received};

const SENDER: &str = "no-reply@krystalinex.local";

/// Serves an inbox.
pub fn router(inbox: Inbox) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || Json(true)))
        .route("/email", get(list))
        .route("/email/all", axum::routing::delete(clear))
        .route("/email/{id}", get(one))
        .with_state(inbox)
}

async fn list(State(inbox): State<Inbox>) -> Json<Vec<Value>> {
    Json(inbox.mails().iter().rev().map(shape).collect())
}

async fn one(State(inbox): State<Inbox>, Path(id): Path<String>) -> Response {
    match inbox.mails().iter().find(|received| received.id.to_string() == id) {
        Some(received) => Json(shape(received)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn clear(State(inbox): State<Inbox>) -> Json<bool> {
    inbox.clear();
    Json(true)
}

fn shape(received: &Received) -> Value {
    let mail = &received.mail;
    let time = time(received);
    json!({
        "id": received.id.to_string(),
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
        "from": [{ "address": SENDER, "name": "KrystalineX" }],
        "to": [{ "address": mail.to, "name": "" }],
        "headers": { "subject": mail.subject, "from": SENDER, "to": mail.to, "date": time },
        "date": time,
        "time": time,
        "read": false,
        "attachments": [],
    })
}

fn time(received: &Received) -> String {
    wire::time::format(Time::from_micros(received.at_seconds.saturating_mul(1_000_000)))
}

async fn page(State(inbox): State<Inbox>) -> Response {
    let mut rows = String::new();
    for received in inbox.mails() {
        let mail = &received.mail;
        rows.push_str(&format!(
            "<article><h2>{}</h2><p>to {} · {}</p><pre>{}</pre></article>",
            escape(&mail.subject),
            escape(&mail.to),
            escape(&time(&received)),
            escape(&mail.text)
        ));
    }
    if rows.is_empty() {
        rows.push_str("<p>No mail yet. Register a user, and reload this page.</p>");
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Development inbox</title>\
         <h1>Development inbox</h1><p>Mail that this exchange would have sent. It is kept in memory only.</p>{rows}</html>"
    );
    let mut response = Html(page).into_response();
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

#[cfg(test)]
mod tests {
    use crate::mail::{Mail, Mailer};

    use super::*;

    #[tokio::test]
    async fn a_mail_is_listed_in_maildevs_shape_and_shown_inert() {
        let inbox = Inbox::default();
        let to = "a@example.com".to_owned();
        let subject = "<script>alert(1)</script>".to_owned();
        let (text, html) = ("code 123456".to_owned(), "<p>code 123456</p>".to_owned());
        let id = uuid::Uuid::from_u128(1);
        inbox.send(Mail { id, to, subject, text, html }).await.unwrap();
        let mails = list(State(inbox.clone())).await.0;
        assert_eq!(mails[0]["to"][0]["address"], "a@example.com");
        assert_eq!(mails[0]["text"], "code 123456");
        assert_eq!(mails[0]["html"], "<p>code 123456</p>");
        let page = page(State(inbox)).await.into_body();
        let bytes = axum::body::to_bytes(page, 10_000).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("code 123456") && !text.contains("<script>"), "{text}");
    }
}
