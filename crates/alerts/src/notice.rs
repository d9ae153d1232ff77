//! What a person reads: at most one notice of what fires and one of what is over, for each notification of Alertmanager.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::webhook::{Alert, AlertStatus, Webhook};

/// Longest title and text, in bytes: ntfy makes an attachment of a text above 4,096.
const TITLE_BYTES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 3_000;
/// Alerts that one notice names.
const ALERTS_MAX: usize = 10;
const LABEL_BYTES_MAX: usize = 64;
const LINK_BYTES_MAX: usize = 500;

/// How loud the phone is: the runbook's map, section 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Something is over.
    Low,
    /// info, and what has no severity that we know.
    Default,
    /// warning.
    High,
    /// critical.
    Urgent,
}

impl Priority {
    fn of(severity: &str) -> Self {
        match severity {
            "critical" => Self::Urgent,
            "warning" => Self::High,
            _ => Self::Default,
        }
    }

    /// Returns ntfy's number for it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Low => 2,
            Self::Default => 3,
            Self::High => 4,
            Self::Urgent => 5,
        }
    }

    fn emoji(self) -> &'static str {
        match self {
            Self::Low => "✅",
            Self::Default => "ℹ️",
            Self::High => "⚠️",
            Self::Urgent => "🚨",
        }
    }
}

/// One notice, as every sink shows it in its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One line, with the emoji of its priority.
    pub title: String,
    /// What there is to say.
    pub text: String,
    /// How loud.
    pub priority: Priority,
    /// The level, what it is about, the alert's name.
    pub tags: Vec<String>,
    /// The page that says what to do.
    pub link: Option<String>,
    /// The same for the same alerts in the same state: what has been delivered is known by it.
    pub identity: u64,
}

impl Notice {
    /// Makes the notices of one notification, the louder one first.
    #[must_use]
    pub fn of(webhook: &Webhook) -> Vec<Self> {
        let one = |status| {
            let alerts: Vec<&Alert> =
                webhook.alerts.iter().filter(|alert| alert.status == status).collect();
            Self::about(webhook, &alerts, status)
        };
        [AlertStatus::Firing, AlertStatus::Resolved].into_iter().filter_map(one).collect()
    }

    fn about(webhook: &Webhook, alerts: &[&Alert], status: AlertStatus) -> Option<Self> {
        let loudest = |alert: &&&Alert| Priority::of(alert.label("severity"));
        // The first of the loudest: max_by_key would give the last.
        let first = alerts.iter().rev().max_by_key(loudest)?;
        let priority = match status {
            AlertStatus::Firing => Priority::of(first.label("severity")),
            AlertStatus::Resolved => Priority::Low,
        };
        Some(Self {
            title: title(first, status, priority),
            text: text(webhook, alerts, status),
            priority,
            tags: tags(first),
            link: link(first),
            identity: identity(webhook, alerts),
        })
    }
}

fn title(alert: &Alert, status: AlertStatus, priority: Priority) -> String {
    let name = alert.label("alertname");
    let summary = alert.annotation("summary");
    let said = if summary.is_empty() { name } else { summary };
    let said = if said.is_empty() { "an alert without a name" } else { said };
    let level = match (status, alert.label("sev")) {
        (AlertStatus::Resolved, _) => "Resolved: ".to_owned(),
        (AlertStatus::Firing, "") => String::new(),
        (AlertStatus::Firing, level) => format!("{level}: "),
    };
    cut(&one_line(&format!("{} {level}{said}", priority.emoji())), TITLE_BYTES_MAX)
}

fn text(webhook: &Webhook, alerts: &[&Alert], status: AlertStatus) -> String {
    let mut lines = Vec::new();
    for alert in alerts.iter().take(ALERTS_MAX) {
        let name = alert.label("alertname");
        let description = alert.annotation("description");
        let description =
            if description.is_empty() { alert.annotation("summary") } else { description };
        let since = match (status, alert.starts_at.as_str()) {
            (AlertStatus::Firing, since) if !since.is_empty() => format!(" (since {since})"),
            _ => String::new(),
        };
        lines.push(one_line(&format!("{name}: {description}{since}")));
    }
    let unnamed = alerts.len().saturating_sub(ALERTS_MAX);
    let more = u64::try_from(unnamed).unwrap_or(u64::MAX).saturating_add(webhook.truncated_alerts);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    cut(&lines.join("\n"), TEXT_BYTES_MAX)
}

fn tags(alert: &Alert) -> Vec<String> {
    let all = ["sev", "part", "alertname"].map(|name| one_line(alert.label(name)));
    let short = |tag: String| cut(&tag.replace(',', " "), LABEL_BYTES_MAX);
    all.into_iter().filter(|tag| !tag.is_empty()).map(short).collect()
}

/// A link that a phone may open: to the web, and not too long.
fn link(alert: &Alert) -> Option<String> {
    let link = alert.annotation("runbook_url");
    let web = link.starts_with("https://") || link.starts_with("http://");
    let plain = link.bytes().all(|byte| byte.is_ascii_graphic());
    (web && plain && link.len() <= LINK_BYTES_MAX).then(|| link.to_owned())
}

fn identity(webhook: &Webhook, alerts: &[&Alert]) -> u64 {
    let mut hasher = DefaultHasher::new();
    webhook.group_key.hash(&mut hasher);
    for alert in alerts {
        (&alert.fingerprint, &alert.labels, alert.status, &alert.starts_at).hash(&mut hasher);
    }
    hasher.finish()
}

/// Line ends and other control characters become spaces: a description has no say in how a notice is laid out.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().to_owned()
}

/// Cuts a text to so many bytes, between two characters, and shows that it did.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let room = bytes_max.saturating_sub('…'.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
