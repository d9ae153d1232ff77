//! The relay against servers that speak as ntfy and Slack do.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Receiver, TOPIC, ask, nowhere, relay};

fn alert(status: &str, severity: &str, name: &str) -> Value {
    json!({
        "status": status,
        "labels": { "alertname": name, "severity": severity, "sev": "SEV1", "part": "money" },
        "annotations": { "summary": "The ledger does not balance", "description": "By 3.",
            "runbook_url": "https://example.com/ALERTS.md#ledgerimbalance" },
        "startsAt": "2026-01-01T00:00:00Z",
        "fingerprint": "f",
    })
}

fn notification(alerts: &[Value]) -> String {
    json!({ "version": "4", "groupKey": "g", "alerts": alerts }).to_string()
}

/// Everything that the phone needs, for every priority of the runbook's map.
#[tokio::test]
async fn each_severity_reaches_ntfy_with_its_priority() {
    let (ntfy, url) = Receiver::start(&[]).await;
    let relay = relay(&url, None).await;
    let cases = [
        ("firing", "critical", 5, "🚨 SEV1: "),
        ("firing", "warning", 4, "⚠️ SEV1: "),
        ("firing", "info", 3, "ℹ️ SEV1: "),
        ("resolved", "critical", 2, "✅ Resolved: "),
    ];
    for (status, severity, priority, begin) in cases {
        let body = notification(&[alert(status, severity, "LedgerImbalance")]);
        assert_eq!(ask("POST", &format!("{relay}/ntfy"), body).await.0, 200);
        let (uri, token, body) = ntfy.seen().pop().expect("it came");
        // Neither address nor header has the topic, which logs on the way would keep.
        assert_eq!((uri.as_str(), token.as_deref()), ("/", Some("Bearer tk_1")));
        assert_eq!(body["topic"], TOPIC);
        assert_eq!(body["priority"], priority);
        assert_eq!(body["title"], format!("{begin}The ledger does not balance"));
        assert_eq!(body["click"], "https://example.com/ALERTS.md#ledgerimbalance");
        assert_eq!(body["tags"], json!(["SEV1", "money", "LedgerImbalance"]));
        assert!(body["message"].as_str().expect("a text").starts_with("LedgerImbalance: By 3."));
    }
    assert_eq!(ntfy.seen().len(), 4);
}

#[tokio::test]
async fn slack_is_told_where_it_is_configured_and_is_nothing_where_not() {
    let (ntfy, url) = Receiver::start(&[]).await;
    let (slack, slack_url) = Receiver::start(&[]).await;
    let body = notification(&[alert("firing", "warning", "A")]);
    let without = relay(&url, None).await;
    assert_eq!(ask("POST", &format!("{without}/slack"), body.clone()).await.0, 200);
    let with = relay(&url, Some(&format!("{slack_url}/services/T/B/x"))).await;
    assert_eq!(ask("POST", &format!("{with}/slack"), body).await.0, 200);
    let (uri, token, body) = slack.seen().pop().expect("it came");
    assert_eq!((uri.as_str(), token), ("/services/T/B/x", None));
    assert!(body["text"].as_str().expect("a text").starts_with("*⚠️ SEV1: The ledger"));
    assert!(slack.seen().len() == 1 && ntfy.seen().is_empty());
}

#[tokio::test]
async fn one_that_is_down_does_not_hold_back_the_other() {
    let (slack, slack_url) = Receiver::start(&[]).await;
    let relay = relay(&nowhere().await, Some(&slack_url)).await;
    let body = notification(&[alert("firing", "critical", "A")]);
    let (to_ntfy, to_slack) = (format!("{relay}/ntfy"), format!("{relay}/slack"));
    let (down, up) =
        tokio::join!(ask("POST", &to_ntfy, body.clone()), ask("POST", &to_slack, body));
    assert_eq!((down.0, up.0), (502, 200), "Alertmanager repeats the one and not the other");
    assert_eq!(slack.seen().len(), 1);
    let (status, text) = ask("GET", &format!("{relay}/metrics"), "").await;
    assert_eq!(status, 200);
    for line in
        ["receiver=\"ntfy\",outcome=\"failed\"} ", "receiver=\"slack\",outcome=\"delivered\"} "]
    {
        let count = text.lines().find_map(|shown| shown.split_once(line)).expect(line).1;
        assert_ne!(count, "0", "{line}");
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_and_then_left_to_alertmanager() {
    let busy = StatusCode::SERVICE_UNAVAILABLE;
    let (ntfy, url) = Receiver::start(&[busy, StatusCode::TOO_MANY_REQUESTS]).await;
    let to = format!("{}/ntfy", relay(&url, None).await);
    let body = notification(&[alert("firing", "critical", "A")]);
    assert_eq!(ask("POST", &to, body.clone()).await.0, 200);
    assert_eq!(ntfy.seen().len(), 3, "the third try was taken");

    let (ntfy, url) = Receiver::start(&[busy, busy, busy]).await;
    let to = format!("{}/ntfy", relay(&url, None).await);
    assert_eq!(ask("POST", &to, body.clone()).await.0, 502);
    assert_eq!(ntfy.seen().len(), 3, "it does not try for ever");
    assert_eq!(ask("POST", &to, body).await.0, 200, "Alertmanager comes again");
}

#[tokio::test]
async fn what_is_refused_is_not_repeated() {
    let (ntfy, url) = Receiver::start(&[StatusCode::FORBIDDEN]).await;
    let to = format!("{}/ntfy", relay(&url, None).await);
    let (status, _) = ask("POST", &to, notification(&[alert("firing", "info", "A")])).await;
    assert_eq!((status, ntfy.seen().len()), (422, 1));
}

/// What fires has been delivered, what is over has not: Alertmanager repeats both, and the phone rings once.
#[tokio::test]
async fn a_repeat_of_half_a_notification_does_not_ring_twice() {
    let busy = StatusCode::BAD_GATEWAY;
    let (ntfy, url) = Receiver::start(&[StatusCode::OK, busy, busy, busy]).await;
    let to = format!("{}/ntfy", relay(&url, None).await);
    let body =
        notification(&[alert("resolved", "critical", "B"), alert("firing", "critical", "A")]);
    assert_eq!(ask("POST", &to, body.clone()).await.0, 502);
    assert_eq!(ask("POST", &to, body).await.0, 200);
    let priorities: Vec<_> =
        ntfy.seen().iter().map(|(_, _, body)| body["priority"].clone()).collect();
    assert_eq!(priorities, [5, 2, 2, 2, 2]);
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("it listens"));
    let to = format!("{}/ntfy", relay(&url, None).await);
    let body = notification(&[alert("firing", "critical", "A")]);
    let asking = tokio::time::timeout(Duration::from_secs(120), ask("POST", &to, body));
    assert_eq!(asking.await.expect("the relay gives up by itself").0, 502);
}

#[tokio::test]
async fn hostile_input_is_refused() {
    let (ntfy, url) = Receiver::start(&[]).await;
    let relay = relay(&url, None).await;
    let to = format!("{relay}/ntfy");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = ["", "{}", "[]", "{\"alerts\":3}", "{\"alerts\":[{}]}", "\u{0}", &deep];
    for body in cases {
        assert_eq!(ask("POST", &to, body.to_owned()).await.0, 400, "{:.40}", body);
    }
    let large = notification(&vec![alert("firing", "info", "A"); 5_000]);
    assert!(large.len() > 1024 * 1024);
    assert_eq!(ask("POST", &to, large).await.0, 413);
    assert_eq!(ask("GET", &to, "").await.0, 405);
    assert!(ntfy.seen().is_empty());
    let (status, body) = ask("GET", &format!("{relay}/health"), "").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"status\":\"ok\"") && !body.contains(TOPIC));
}
