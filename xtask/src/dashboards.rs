//! Grafana's dashboards, made from a table of panels, so that they look alike and their files are never edited by hand.

mod boards;
mod panel;

use serde_json::{Value, json};

use panel::Panel;

/// Where the files stand.
const DIRECTORY: &str = "config/grafana/dashboards";
/// Grafana's grid is so many columns wide.
const COLUMNS: u32 = 24;
/// Where the pages of the documentation are.
const DOCS: &str = "https://github.com/krystalinex/krystalinex/blob/main/docs";

/// A dashboard: rows of panels.
pub(crate) struct Board {
    /// The file's name, and what it is known by.
    name: &'static str,
    title: &'static str,
    description: &'static str,
    rows: Vec<(&'static str, Vec<Panel>)>,
}

/// Returns every file: its path and what is in it.
pub(crate) fn files() -> Vec<(String, String)> {
    let all = boards::all();
    let file = |board: &Board| {
        let text = serde_json::to_string_pretty(&dashboard(board)).expect("it is plain data");
        (format!("{DIRECTORY}/{}.json", board.name), text + "\n")
    };
    all.iter().map(file).collect()
}

fn dashboard(board: &Board) -> Value {
    let mut panels = Vec::new();
    let mut id = 0;
    let mut next = || {
        id += 1;
        id
    };
    let mut y = 0;
    for (title, row) in &board.rows {
        panels.push(json!({
            "id": next(), "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
        }));
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in row {
            let (w, h) = panel.size();
            if x + w > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            panels.push(panel.json(next(), json!({ "h": h, "w": w, "x": x, "y": y })));
            (x, height) = (x + w, height.max(h));
        }
        y += height;
    }
    json!({
        "uid": format!("krystalinex-{}", board.name),
        "title": format!("KrystalineX: {}", board.title),
        "description": board.description,
        "tags": ["krystalinex"],
        "timezone": "utc",
        "schemaVersion": 39,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [instance()] },
        "annotations": { "list": [alerts()] },
        "links": links(),
        "panels": panels,
    })
}

/// The variable that picks processes.
fn instance() -> Value {
    let query = "label_values(up{job=~\"krystalinex-.+\"}, instance)";
    json!({
        "name": "instance", "label": "Instance", "type": "query", "datasource": panel::source(),
        "query": { "query": query, "refId": "instances" }, "definition": query,
        "includeAll": true, "allValue": ".*", "multi": true, "refresh": 2, "sort": 1,
        "current": { "text": "All", "value": "$__all", "selected": true },
    })
}

/// What fired when, over every graph.
fn alerts() -> Value {
    json!({
        "name": "Alerts", "enable": true, "iconColor": "red", "datasource": panel::source(),
        "expr": "ALERTS{alertstate=\"firing\",severity=\"critical\"}", "titleFormat": "{{alertname}}",
        "textFormat": "{{sev}}", "step": "30s",
    })
}

fn links() -> Value {
    json!([
        { "title": "Dashboards", "type": "dashboards", "tags": ["krystalinex"], "asDropdown": true, "keepTime": true,
          "includeVars": true },
        { "title": "Alerts", "type": "link", "url": format!("{DOCS}/ALERTS.md"), "targetBlank": true },
        { "title": "Runbook", "type": "link", "url": format!("{DOCS}/RUNBOOK.md"), "targetBlank": true },
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn panels_fill_the_grid_and_do_not_overlap() {
        for board in boards::all() {
            let dashboard = dashboard(&board);
            let mut taken = BTreeSet::new();
            for panel in dashboard["panels"].as_array().expect("panels") {
                let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
                assert!(at("x") + at("w") <= u64::from(COLUMNS), "{panel}");
                for (x, y) in (at("x")..at("x") + at("w"))
                    .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
                {
                    assert!(taken.insert((x, y)), "{}: {} overlaps", board.name, panel["title"]);
                }
            }
        }
    }

    #[test]
    fn every_expression_asks_for_a_metric() {
        for (path, text) in files() {
            let value: Value = serde_json::from_str(&text).expect("JSON");
            for panel in value["panels"].as_array().expect("panels") {
                for target in panel["targets"].as_array().into_iter().flatten() {
                    let expression = target["expr"].as_str().expect("an expression");
                    assert!(!crate::queries::names(expression).is_empty(), "{path}: {expression}");
                }
            }
        }
    }
}
