//! What Alertmanager sends: the webhook's format, version 4.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One notification of Alertmanager: alerts of one group.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// What the group is known by.
    #[serde(default)]
    pub group_key: String,
    /// Its alerts, firing and resolved.
    pub alerts: Vec<Alert>,
    /// How many more there were.
    #[serde(default)]
    pub truncated_alerts: u64,
}

/// One alert.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Whether it is still on.
    pub status: AlertStatus,
    /// What it is about.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it says.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Since when, as Alertmanager writes it.
    #[serde(default)]
    pub starts_at: String,
    /// What it is known by among all alerts.
    #[serde(default)]
    pub fingerprint: String,
}

/// Whether an alert is on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// It is on.
    Firing,
    /// It is over.
    Resolved,
}

impl Alert {
    /// Returns a label, or nothing where it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Returns an annotation, or nothing where it has none.
    #[must_use]
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }
}
