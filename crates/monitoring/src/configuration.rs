//! The project's own configuration, with only places put in: read as YAML, changed as a tree, written as JSON, which is YAML.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::MonitoringError;

/// `config/prometheus.yml`.
const PROMETHEUS: &str = include_str!("../../../config/prometheus.yml");
/// `config/alertmanager.yml`.
const ALERTMANAGER: &str = include_str!("../../../config/alertmanager.yml");
/// The rules that it names: as files beside it.
pub(crate) const RULES: [(&str, &str); 2] = [
    ("recording-rules.yml", include_str!("../../../config/recording-rules.yml")),
    ("alerting-rules.yml", include_str!("../../../config/alerting-rules.yml")),
];

/// Where one of Prometheus' jobs finds what it watches: its name, and `host:port` of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The job.
    pub name: &'static str,
    /// Where.
    pub targets: Vec<String>,
    /// Whether it is asked over TLS. Its certificate is not checked: it is a neighbor on the same host.
    pub tls: bool,
}

impl Job {
    /// Makes a job of one port of the local host.
    #[must_use]
    pub fn local(name: &'static str, port: u16) -> Self {
        Self { name, targets: vec![local(port)], tls: false }
    }
}

/// Who is told. What is not named is told nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// GoAlert.
    pub goalert: Option<GoAlert>,
    /// `host:port` of the alert relay, which tells phones and channels.
    pub relay: Option<String>,
}

/// Where GoAlert is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAlert {
    /// Its `host:port`.
    pub authority: String,
    /// The file with the integration's key.
    pub key_file: PathBuf,
}

/// How often is looked, where it is not as shipped: in tests that have no time. Prometheus' words, such as `5s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    /// How often is measured.
    pub scrape: Option<&'static str>,
    /// How often rules are evaluated.
    pub evaluation: Option<&'static str>,
    /// How long Alertmanager waits for others of the group.
    pub group_wait: Option<&'static str>,
    /// How long it waits before it tells of a change in a group.
    pub group_interval: Option<&'static str>,
}

/// Returns `127.0.0.1:port`.
pub(crate) fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Puts places into Prometheus' configuration. Jobs that nothing is said of are left out.
pub(crate) fn prometheus(
    jobs: &[Job],
    alertmanager: u16,
    intervals: Intervals,
) -> Result<String, MonitoringError> {
    let file = "config/prometheus.yml";
    let mut root = read(file, PROMETHEUS)?;
    let wrong = |what: &str| MonitoringError::Configuration { file, what: what.to_owned() };
    let shipped = root.get_mut("scrape_configs").and_then(Value::as_array_mut);
    let shipped = shipped.ok_or_else(|| wrong("there are no scrape_configs"))?;
    let known: Vec<String> = shipped.iter().map(|job| name(job, "job_name")).collect();
    if let Some(missing) = jobs.iter().find(|job| !known.iter().any(|name| name == job.name)) {
        return Err(wrong(&format!("there is no job {}", missing.name)));
    }
    shipped.retain(|job| jobs.iter().any(|wanted| wanted.name == name(job, "job_name")));
    for job in shipped {
        let wanted = jobs.iter().find(|wanted| wanted.name == name(job, "job_name"));
        place(job, wanted.map(|wanted| wanted.targets.clone()).unwrap_or_default());
        if wanted.is_some_and(|wanted| wanted.tls) {
            job["scheme"] = json!("https");
            job["tls_config"] = json!({"insecure_skip_verify": true});
        }
        if intervals.scrape.is_some() {
            for own in ["scrape_interval", "scrape_timeout"] {
                job.as_object_mut().map(|job| job.remove(own));
            }
        }
    }
    let managers = root.pointer_mut("/alerting/alertmanagers/0");
    place(managers.ok_or_else(|| wrong("there is no Alertmanager"))?, vec![local(alertmanager)]);
    if let Some(scrape) = intervals.scrape {
        root["global"]["scrape_interval"] = json!(scrape);
        root["global"]["scrape_timeout"] = json!(scrape);
    }
    if let Some(evaluation) = intervals.evaluation {
        root["global"]["evaluation_interval"] = json!(evaluation);
    }
    // They lie beside the configuration.
    root["rule_files"] = json!(RULES.map(|(name, _)| name));
    Ok(format!("{root:#}\n"))
}

/// Puts places into Alertmanager's configuration. A receiver that nothing is said of tells nobody.
pub(crate) fn alertmanager(
    receivers: &Receivers,
    intervals: Intervals,
) -> Result<String, MonitoringError> {
    let file = "config/alertmanager.yml";
    let mut root = read(file, ALERTMANAGER)?;
    let wrong = |what: String| MonitoringError::Configuration { file, what };
    let all = root.get_mut("receivers").and_then(Value::as_array_mut);
    for receiver in all.ok_or_else(|| wrong("there are no receivers".to_owned()))? {
        let (authority, key) = match name(receiver, "name").as_str() {
            "goalert" => {
                let goalert = receivers.goalert.as_ref();
                (goalert.map(|it| &it.authority), goalert.map(|it| &it.key_file))
            }
            "ntfy" => (receivers.relay.as_ref(), None),
            other => return Err(wrong(format!("the receiver {other} is not known"))),
        };
        let Some(authority) = authority else {
            *receiver = json!({"name": name(receiver, "name")});
            continue;
        };
        for webhook in
            receiver.get_mut("webhook_configs").and_then(Value::as_array_mut).into_iter().flatten()
        {
            webhook["url"] = json!(moved(&name(webhook, "url"), authority));
            if let Some(key) = key {
                webhook["http_config"]["authorization"]["credentials_file"] = json!(key);
            }
        }
    }
    if let Some(route) = root.get_mut("route") {
        let times =
            [("group_wait", intervals.group_wait), ("group_interval", intervals.group_interval)];
        times.iter().for_each(|(name, value)| {
            if let Some(value) = value {
                set_in_routes(route, name, value);
            }
        });
    }
    Ok(format!("{root:#}\n"))
}

fn read(file: &'static str, text: &str) -> Result<Value, MonitoringError> {
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| MonitoringError::Configuration { file, what: error.to_string() })?;
    match value.is_object() {
        true => Ok(value),
        false => Err(MonitoringError::Configuration { file, what: "it is no mapping".to_owned() }),
    }
}

fn name(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Puts targets in place of those of the first static configuration, whose labels stay.
fn place(job: &mut Value, targets: Vec<String>) {
    let mut one = job["static_configs"][0].as_object().cloned().unwrap_or_else(Map::new);
    one.insert("targets".to_owned(), json!(targets));
    job["static_configs"] = json!([one]);
}

/// Changes the host and port of an address.
fn moved(url: &str, authority: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (_, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    format!("{scheme}://{authority}{path}")
}

/// Sets a time in a route, and in those below it that have one of their own.
fn set_in_routes(route: &mut Value, name: &str, value: &str) {
    route[name] = json!(value);
    for below in route.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
        if below.get(name).is_some() {
            set_in_routes(below, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).expect("it is JSON")
    }

    #[test]
    fn nothing_but_places_is_changed() {
        let jobs = ["prometheus", "krystalinex-server"].map(|name| Job::local(name, 1));
        let shipped = read("", PROMETHEUS).expect("it is YAML");
        let mut made =
            parsed(&prometheus(&jobs, 2, Intervals::default()).expect("its jobs are there"));
        assert_eq!(made["global"], shipped["global"]);
        assert_eq!(made["rule_files"], shipped["rule_files"], "what is named is what is written");
        let left: Vec<&Value> = made["scrape_configs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|job| &job["job_name"])
            .collect();
        assert_eq!(left, ["krystalinex-server", "prometheus"]);
        assert_eq!(made["scrape_configs"][0]["static_configs"][0]["targets"][0], "127.0.0.1:1");
        assert_eq!(
            made["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0],
            "127.0.0.1:2"
        );
        let all: Vec<Job> = Vec::new();
        made = parsed(&prometheus(&all, 2, Intervals::default()).expect("none is asked for"));
        assert_eq!(made["scrape_configs"], json!([]));
    }

    #[test]
    fn receivers_are_moved_or_told_nothing() {
        let goalert = GoAlert { authority: "127.0.0.1:3".to_owned(), key_file: "/k".into() };
        let receivers = Receivers { goalert: Some(goalert), relay: None };
        let made = alertmanager(&receivers, Intervals::default()).expect("they are known");
        let made = parsed(&made);
        let shipped = read("", ALERTMANAGER).expect("it is YAML");
        assert_eq!(made["route"], shipped["route"]);
        assert_eq!(made["inhibit_rules"], shipped["inhibit_rules"]);
        for receiver in made["receivers"].as_array().expect("a list") {
            if receiver["name"] == "ntfy" {
                assert_eq!(*receiver, json!({"name": "ntfy"}));
                continue;
            }
            let webhook = &receiver["webhook_configs"][0];
            let url = webhook["url"].as_str().expect("an address");
            assert_eq!(url, "http://127.0.0.1:3/api/v2/prometheusalertmanager/incoming");
            assert_eq!(webhook["http_config"]["authorization"]["credentials_file"], "/k");
        }
    }

    #[test]
    fn shorter_times_are_set_wherever_a_route_has_its_own() {
        let intervals = Intervals { group_wait: Some("1s"), ..Intervals::default() };
        let made = alertmanager(&Receivers::default(), intervals).expect("it is shipped");
        let text = parsed(&made)["route"].to_string();
        assert!(text.contains("\"group_wait\":\"1s\""), "{text}");
        assert_eq!(
            text.matches("group_wait").count(),
            text.matches("\"group_wait\":\"1s\"").count()
        );
        let intervals =
            Intervals { scrape: Some("2s"), evaluation: Some("3s"), ..Intervals::default() };
        let made = parsed(&prometheus(&[], 1, intervals).expect("it is shipped"));
        assert_eq!(made["global"]["scrape_interval"], "2s");
        assert_eq!(made["global"]["evaluation_interval"], "3s");
    }
}
