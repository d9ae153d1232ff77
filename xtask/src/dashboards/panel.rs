//! One panel, and its JSON.

use serde_json::{Value, json};

use super::DOCS;

/// What a panel looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// One number.
    Stat,
    /// Lines over time.
    Lines,
    /// A table of what is now.
    Table,
}

/// A panel.
pub(super) struct Panel {
    look: Look,
    title: &'static str,
    unit: &'static str,
    queries: Vec<(String, &'static str)>,
    /// From which value on it is orange, and red.
    orange: Option<f64>,
    red: Option<f64>,
    /// Below which value it is red.
    red_below: Option<f64>,
    alert: Option<&'static str>,
    description: &'static str,
    width: Option<u32>,
    stacked: bool,
    signed: bool,
}

/// The data source, by the name that the provisioning gives it.
pub(super) fn source() -> Value {
    json!({ "type": "prometheus", "uid": "prometheus" })
}

fn panel(look: Look, title: &'static str, unit: &'static str) -> Panel {
    Panel {
        look,
        title,
        unit,
        queries: Vec::new(),
        orange: None,
        red: None,
        red_below: None,
        alert: None,
        description: "",
        width: None,
        stacked: false,
        signed: false,
    }
}

/// One number.
pub(super) fn stat(title: &'static str, unit: &'static str, query: impl Into<String>) -> Panel {
    panel(Look::Stat, title, unit).and(query, "")
}

/// Lines over time.
pub(super) fn lines(title: &'static str, unit: &'static str) -> Panel {
    panel(Look::Lines, title, unit)
}

/// A table of what is now.
pub(super) fn table(title: &'static str, unit: &'static str, query: impl Into<String>) -> Panel {
    panel(Look::Table, title, unit).and(query, "")
}

impl Panel {
    /// Adds a query and what its lines are called.
    pub(super) fn and(mut self, query: impl Into<String>, legend: &'static str) -> Self {
        self.queries.push((query.into(), legend));
        self
    }

    pub(super) fn orange(mut self, from: f64) -> Self {
        self.orange = Some(from);
        self
    }

    pub(super) fn red(mut self, from: f64) -> Self {
        self.red = Some(from);
        self
    }

    pub(super) fn red_below(mut self, below: f64) -> Self {
        self.red_below = Some(below);
        self
    }

    /// Names the alert whose page says what to do.
    pub(super) fn alert(mut self, alert: &'static str) -> Self {
        self.alert = Some(alert);
        self
    }

    pub(super) fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    pub(super) fn wide(mut self, width: u32) -> Self {
        self.width = Some(width);
        self
    }

    pub(super) fn stacked(mut self) -> Self {
        self.stacked = true;
        self
    }

    /// Says that what is below zero counts.
    pub(super) fn signed(mut self) -> Self {
        self.signed = true;
        self
    }

    /// Returns its width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        let (width, height) = match self.look {
            Look::Stat => (4, 4),
            Look::Lines | Look::Table => (12, 8),
        };
        (self.width.unwrap_or(width), height)
    }

    pub(super) fn json(&self, id: u32, place: Value) -> Value {
        let names = "ABCDEFGH".chars();
        let targets: Vec<Value> = self
            .queries
            .iter()
            .zip(names)
            .map(|((query, legend), name)| {
                let now = self.look == Look::Table;
                json!({
                    "refId": name.to_string(), "expr": query, "legendFormat": legend, "datasource": source(),
                    "instant": now, "range": !now, "format": if now { "table" } else { "time_series" },
                })
            })
            .collect();
        let kind = match self.look {
            Look::Stat => "stat",
            Look::Lines => "timeseries",
            Look::Table => "table",
        };
        let links: Vec<Value> = self
            .alert
            .iter()
            .map(|alert| {
                let anchor = alert.to_lowercase();
                json!({ "title": format!("What to do: {alert}"), "url": format!("{DOCS}/ALERTS.md#{anchor}"),
                    "targetBlank": true })
            })
            .collect();
        json!({
            "id": id, "type": kind, "title": self.title, "description": self.description, "gridPos": place,
            "datasource": source(), "targets": targets, "links": links, "options": self.options(),
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "transformations": match self.look {
                Look::Table => json!([{ "id": "organize", "options": { "excludeByName": { "Time": true, "__name__": true,
                    "job": true } } }]),
                _ => json!([]),
            },
        })
    }

    fn defaults(&self) -> Value {
        let first = if self.red_below.is_some() { "red" } else { "green" };
        let mut steps = vec![json!({ "color": first, "value": null })];
        let rising = [(self.red_below, "green"), (self.orange, "orange"), (self.red, "red")];
        for (value, color) in rising {
            steps.extend(value.map(|value| json!({ "color": color, "value": value })));
        }
        let is_marked = steps.len() > 1;
        let color = match (self.look, is_marked) {
            (Look::Lines, _) => json!({ "mode": "palette-classic" }),
            (_, true) => json!({ "mode": "thresholds" }),
            (_, false) => json!({ "mode": "fixed", "fixedColor": "text" }),
        };
        let mut defaults = json!({
            "unit": self.unit, "color": color, "noValue": "–",
            "thresholds": { "mode": "absolute", "steps": steps },
        });
        if !self.signed {
            defaults["min"] = json!(0);
        }
        if self.look == Look::Lines {
            defaults["custom"] = json!({
                "lineWidth": 1, "fillOpacity": if self.stacked { 30 } else { 8 }, "showPoints": "never",
                "stacking": { "mode": if self.stacked { "normal" } else { "none" } },
                "thresholdsStyle": { "mode": if is_marked { "dashed" } else { "off" } },
            });
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.look {
            Look::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "value", "graphMode": "area", "textMode": "auto", "justifyMode": "auto",
            }),
            Look::Lines => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Look::Table => json!({ "showHeader": true, "cellHeight": "sm" }),
        }
    }
}
