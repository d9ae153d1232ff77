use serde_json::{Value, json};

use super::*;

fn alert(status: &str, severity: &str, name: &str) -> Value {
    json!({
        "status": status,
        "labels": { "alertname": name, "severity": severity, "sev": "SEV2", "part": "queue" },
        "annotations": {
            "summary": format!("{name} has happened"),
            "description": "3 wait.\nNobody comes.",
            "runbook_url": "https://example.com/docs/ALERTS.md#x",
        },
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://localhost:9090/graph",
        "fingerprint": "791cec13fcba0368",
    })
}

fn webhook(alerts: &[Value]) -> Webhook {
    let body = json!({ "version": "4", "groupKey": "{}:{}", "status": "firing", "alerts": alerts });
    serde_json::from_value(body).expect("it is Alertmanager's format")
}

fn notices(alerts: &[Value]) -> Vec<Notice> {
    Notice::of(&webhook(alerts))
}

#[test]
fn the_runbooks_map_of_priorities_holds() {
    let cases = [
        ("firing", "critical", 5, "🚨 SEV2: "),
        ("firing", "warning", 4, "⚠️ SEV2: "),
        ("firing", "info", 3, "ℹ️ SEV2: "),
        ("firing", "whatever", 3, "ℹ️ SEV2: "),
        ("resolved", "critical", 2, "✅ Resolved: "),
        ("resolved", "info", 2, "✅ Resolved: "),
    ];
    for (status, severity, number, begin) in cases {
        let all = notices(&[alert(status, severity, "Queue")]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].priority.number(), number, "{status} {severity}");
        assert_eq!(all[0].title, format!("{begin}Queue has happened"));
    }
}

#[test]
fn a_notice_says_what_and_since_when_and_where_the_runbook_is() {
    let all = notices(&[alert("firing", "critical", "Queue")]);
    assert_eq!(all[0].text, "Queue: 3 wait. Nobody comes. (since 2026-01-01T00:00:00Z)");
    assert_eq!(all[0].tags, ["SEV2", "queue", "Queue"]);
    assert_eq!(all[0].link.as_deref(), Some("https://example.com/docs/ALERTS.md#x"));
}

#[test]
fn what_fires_and_what_is_over_are_two_notices() {
    let all = notices(&[
        alert("resolved", "critical", "Old"),
        alert("firing", "info", "Small"),
        alert("firing", "critical", "Great"),
    ]);
    let seen: Vec<_> = all.iter().map(|notice| (notice.priority, notice.title.as_str())).collect();
    assert_eq!(
        seen,
        [
            (Priority::Urgent, "🚨 SEV2: Great has happened"),
            (Priority::Low, "✅ Resolved: Old has happened")
        ]
    );
}

#[test]
fn a_flood_is_one_bounded_notice() {
    let mut many: Vec<_> = (0..50).map(|i| alert("firing", "warning", &format!("A{i}"))).collect();
    many[0]["annotations"]["description"] = json!("é".repeat(5_000));
    many[0]["annotations"]["summary"] = json!("é".repeat(5_000));
    let all = notices(&many);
    assert_eq!(all.len(), 1);
    assert!(all[0].title.len() <= TITLE_BYTES_MAX && all[0].title.ends_with('…'));
    assert!(all[0].text.len() <= TEXT_BYTES_MAX);
    many[0] = alert("firing", "warning", "A0");
    assert!(notices(&many)[0].text.ends_with("\n… and 40 more"));
}

#[test]
fn what_an_alert_lacks_is_left_out() {
    let all = notices(&[json!({ "status": "firing" })]);
    assert_eq!(all[0].title, "ℹ️ an alert without a name");
    assert!(all[0].tags.is_empty() && all[0].link.is_none());
    assert!(notices(&[]).is_empty());
}

#[test]
fn only_a_link_to_the_web_is_a_link() {
    for link in ["javascript:alert(1)", "https://a b", "https://a\nb", "", "/docs"] {
        let mut one = alert("firing", "info", "A");
        one["annotations"]["runbook_url"] = json!(link);
        assert_eq!(notices(&[one])[0].link, None, "{link}");
    }
}

#[test]
fn a_notice_is_known_by_its_alerts_their_state_and_their_beginning() {
    let one = |value: &Value| notices(std::slice::from_ref(value))[0].identity;
    let first = alert("firing", "critical", "A");
    let mut described = first.clone();
    described["annotations"]["description"] = json!("4 wait.");
    assert_eq!(one(&first), one(&described), "a number that moves makes no new notice");
    let mut again = first.clone();
    again["startsAt"] = json!("2026-01-02T00:00:00Z");
    assert_ne!(one(&first), one(&again));
    assert_ne!(one(&first), one(&alert("resolved", "critical", "A")));
    assert_ne!(one(&first), one(&alert("firing", "critical", "B")));
}
