//! `scripts/provision-goalert` against a stand-in.
//!
//! GoAlert itself cannot be had from the packages that the tests may use. The stand-in knows the operations that the script
//! needs, with the fields that GoAlert's schema gives them (what may be said, what must be), and refuses anything else; what it
//! is told it keeps, as GoAlert does. It shows that the script says what the schema takes, makes each thing once, brings
//! changes over and leaks nothing. That GoAlert then pages is seen only with GoAlert: docs/RUNBOOK.md, section 11.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::scripts::{others_rights, printed, script};
use crate::support::{TOPIC, serve};

const TOKEN: &str = "session-token-1";
const KEY: &str = "integration-key-1";
const PASSWORD: &str = "admin's & password";

/// An operation of GoAlert's schema: its root field, what of its input must be said, what may be.
type Operation = (&'static str, &'static [&'static str], &'static [&'static str]);

const OPERATIONS: &[Operation] = &[
    ("users", &[], &["first", "after", "search", "omit"]),
    ("rotations", &[], &["first", "after", "search", "omit"]),
    ("schedules", &[], &["first", "after", "search", "omit"]),
    ("escalationPolicies", &[], &["first", "after", "search", "omit"]),
    ("services", &[], &["first", "after", "search", "omit"]),
    ("createUser", &["username", "password"], &["name", "email", "role", "favorite"]),
    (
        "createRotation",
        &["name", "timeZone", "start", "type"],
        &["shiftLength", "userIDs", "description", "favorite"],
    ),
    ("updateRotation", &["id"], &["name", "userIDs", "timeZone", "start", "type", "shiftLength"]),
    ("createSchedule", &["name", "timeZone"], &["targets", "description", "favorite"]),
    ("createEscalationPolicy", &["name"], &["repeat", "steps", "description", "favorite"]),
    ("updateEscalationPolicy", &["id"], &["name", "repeat", "stepIDs", "description"]),
    (
        "createEscalationPolicyStep",
        &["delayMinutes"],
        &["escalationPolicyID", "targets", "actions"],
    ),
    (
        "createService",
        &["name"],
        &["escalationPolicyID", "description", "favorite", "newIntegrationKeys"],
    ),
    ("updateService", &["id"], &["name", "escalationPolicyID", "description"]),
    ("createIntegrationKey", &["name", "type"], &["serviceID"]),
    (
        "createUserContactMethod",
        &["userID", "name"],
        &["type", "value", "dest", "newUserNotificationRule"],
    ),
    ("sendContactMethodVerification", &["contactMethodID"], &[]),
    ("verifyContactMethod", &["contactMethodID", "code"], &[]),
];

#[derive(Clone, Default)]
struct GoAlert(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    things: Vec<Value>,
    changes: Vec<String>,
    config: Vec<Value>,
}

impl World {
    fn add(&mut self, kind: &str, mut thing: Value) -> Value {
        thing["id"] = json!(format!("{kind}-{}", self.things.len()));
        thing["kind"] = json!(kind);
        self.things.push(thing.clone());
        thing
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.things.iter().filter(|thing| thing["kind"] == kind).collect()
    }

    fn get(&mut self, id: &Value) -> &mut Value {
        self.things.iter_mut().find(|thing| &thing["id"] == id).expect("it was made before")
    }

    fn nodes(&self, kind: &str, search: &str) -> Value {
        let found = |thing: &&&Value| {
            let text = |field| thing[field].as_str().unwrap_or_default().to_lowercase();
            text("name").contains(&search.to_lowercase())
                || text("email").contains(&search.to_lowercase())
        };
        let all = self.all(kind);
        json!({ "nodes": all.iter().filter(found).collect::<Vec<_>>() })
    }

    /// Does what an operation says.
    fn carry_out(&mut self, field: &str, input: &Value) -> Value {
        if field.starts_with("create") || field.starts_with("update") {
            self.changes.push(field.to_owned());
        }
        match field {
            "users" | "rotations" | "schedules" | "escalationPolicies" | "services" => {
                self.nodes(field, input["search"].as_str().unwrap_or_default())
            }
            "createUser" => self.add("users", input.clone()),
            "createRotation" => self.add("rotations", input.clone()),
            "createSchedule" => self.add("schedules", input.clone()),
            "createEscalationPolicy" => self.add("escalationPolicies", input.clone()),
            "createService" => {
                let mut service = input.clone();
                service["escalationPolicy"] = json!({ "id": input["escalationPolicyID"] });
                service["integrationKeys"] = json!([]);
                self.add("services", service)
            }
            "createIntegrationKey" => {
                let path = "http://localhost:8081/api/v2/prometheusalertmanager/incoming?token=";
                let key = json!({ "id": "key", "name": input["name"], "type": input["type"], "href": format!("{path}{KEY}") });
                self.get(&input["serviceID"])["integrationKeys"] = json!([key]);
                key
            }
            "createEscalationPolicyStep" => {
                let policy = self.get(&input["escalationPolicyID"]);
                policy["steps"].as_array_mut().expect("steps").push(input.clone());
                json!({ "id": "step" })
            }
            "updateEscalationPolicy" => {
                assert_eq!(input["stepIDs"], json!([]), "only to take its steps away");
                self.get(&input["id"])["steps"] = json!([]);
                json!(true)
            }
            "updateRotation" => {
                self.get(&input["id"])["userIDs"] = input["userIDs"].clone();
                json!(true)
            }
            "createUserContactMethod" => {
                let mut method = input.clone();
                method["disabled"] = json!(true);
                self.add("methods", method)
            }
            "verifyContactMethod" => {
                assert_eq!(input["code"], json!(123_456), "a number, as the schema says");
                self.get(&input["contactMethodID"])["disabled"] = json!(false);
                json!(true)
            }
            _ => json!(true),
        }
    }
}

/// What the schema makes of a request, or why it refuses it.
fn answer(world: &mut World, body: &Value) -> Result<Value, String> {
    let query = body["query"].as_str().unwrap_or_default();
    let name = body["operationName"].as_str().unwrap_or_default();
    if !query.contains(&format!(" {name}("))
        || query.matches(['{', '(']).count() != query.matches(['}', ')']).count()
    {
        return Err(format!("no operation {name} in the document"));
    }
    let root = query.split_once('{').map_or("", |(_, rest)| rest.trim());
    let field = root.split('(').next().unwrap_or_default();
    let input = &body["variables"]["input"];
    if field == "user" {
        let id = &body["variables"]["id"];
        let methods: Vec<_> =
            world.all("methods").into_iter().filter(|method| &method["userID"] == id).collect();
        return Ok(json!({ "user": { "contactMethods": methods } }));
    }
    if field == "setConfig" {
        world.config.extend(input.as_array().cloned().unwrap_or_default());
        return Ok(json!({ "setConfig": true }));
    }
    let (_, must, may) = OPERATIONS
        .iter()
        .find(|(known, _, _)| *known == field)
        .ok_or_else(|| format!("cannot query field {field}"))?;
    let said: BTreeSet<&str> =
        input.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    if let Some(missing) = must.iter().find(|key| !said.contains(**key)) {
        return Err(format!("{field}: {missing} must be defined"));
    }
    if let Some(unknown) = said.iter().find(|key| !must.contains(*key) && !may.contains(*key)) {
        return Err(format!("{field}: unknown field {unknown}"));
    }
    Ok(json!({ field: world.carry_out(field, input) }))
}

async fn login(
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> (StatusCode, &'static str) {
    let said =
        |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert!(headers.contains_key("referer"), "GoAlert wants to know where a login comes from");
    assert_eq!(query, [("noRedirect".to_owned(), "1".to_owned())]);
    match (said("username"), said("password")) {
        (Some("admin"), Some(PASSWORD)) => (StatusCode::OK, TOKEN),
        _ => (StatusCode::BAD_REQUEST, "unknown username/password"),
    }
}

async fn graphql(
    State(goalert): State<GoAlert>,
    headers: HeaderMap,
    body: axum::Json<Value>,
) -> (StatusCode, axum::Json<Value>) {
    let bearer = format!("Bearer {TOKEN}");
    if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(bearer.as_str()) {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({})));
    }
    let answer = match answer(&mut goalert.0.lock(), &body) {
        Ok(data) => json!({ "data": data }),
        Err(message) => json!({ "data": null, "errors": [{ "message": message }] }),
    };
    (StatusCode::OK, axum::Json(answer))
}

/// A stand-in, its address, and a directory with the secrets that the script needs.
async fn start() -> (GoAlert, String, tempfile::TempDir) {
    let goalert = GoAlert::default();
    let router = Router::new()
        .route("/api/v2/identity/providers/basic", post(login))
        .route("/api/graphql", post(graphql))
        .with_state(goalert.clone());
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("goalert-password"), PASSWORD).expect("a file");
    std::fs::write(directory.path().join("ntfy-topic"), format!("{TOPIC}\n")).expect("a file");
    (goalert, serve(router).await, directory)
}

async fn provision(url: &str, secrets: &Path, more: &[&str]) -> (bool, String) {
    let secrets = secrets.to_str().expect("UTF-8");
    let mut arguments = vec!["--url", url, "--secrets", secrets];
    arguments.extend(more);
    let output = script("provision-goalert", &arguments).await;
    (output.status.success(), printed(&output))
}

#[tokio::test]
async fn everything_is_made_once_as_the_runbook_says() {
    let (goalert, url, directory) = start().await;
    let (done, text) = provision(&url, directory.path(), &[]).await;
    assert!(done, "{text}");
    assert!(!text.contains(KEY) && !text.contains(TOPIC) && !text.contains(PASSWORD), "{text}");
    {
        let world = goalert.0.lock();
        let policies = world.all("escalationPolicies");
        let delays: Vec<_> = policies[0]["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|step| step["delayMinutes"].clone())
            .collect();
        assert_eq!(delays, [15, 30, 60]);
        assert_eq!(policies[0]["steps"][0]["targets"][0]["type"], "schedule");
        assert_eq!(policies[0]["steps"][0]["targets"][0]["id"], world.all("schedules")[0]["id"]);
        assert_eq!(world.all("rotations")[0]["userIDs"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            world.all("schedules")[0]["targets"][0]["target"]["id"],
            world.all("rotations")[0]["id"]
        );
        assert_eq!(world.all("services")[0]["escalationPolicyID"], policies[0]["id"]);
        assert_eq!(world.config, [json!({ "id": "Webhook.Enable", "value": "true" })]);
        assert_eq!((world.all("users").len(), world.all("methods").len()), (4, 4));
    }
    let key = directory.path().join("goalert-key");
    assert_eq!(std::fs::read_to_string(&key).expect("the key"), KEY);
    assert_eq!(others_rights(&key) | others_rights(&directory.path().join("goalert-users")), 0);

    let made = goalert.0.lock().changes.len();
    let (done, text) = provision(&url, directory.path(), &[]).await;
    assert!(done, "{text}");
    let world = goalert.0.lock();
    assert_eq!(
        world.changes.len(),
        made,
        "a second time changes nothing: {:?}",
        &world.changes[made..]
    );
}

#[tokio::test]
async fn what_has_changed_is_brought_over() {
    let (goalert, url, directory) = start().await;
    assert!(provision(&url, directory.path(), &[]).await.0);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/oncall.json");
    let text = std::fs::read_to_string(path).expect("who is on call");
    let mut oncall: Value = serde_json::from_str(&text).expect("JSON");
    oncall["policy"]["steps"][1]["delayMinutes"] = json!(20);
    oncall["rotation"]["users"] = json!(["second"]);
    let changed = directory.path().join("oncall.json");
    std::fs::write(&changed, oncall.to_string()).expect("a file");
    let changed = changed.to_str().expect("UTF-8");
    let (done, text) = provision(&url, directory.path(), &["--oncall", changed]).await;
    assert!(done, "{text}");
    {
        let world = goalert.0.lock();
        let steps = world.all("escalationPolicies")[0]["steps"].as_array().expect("steps").clone();
        let delays: Vec<_> = steps.iter().map(|step| step["delayMinutes"].clone()).collect();
        assert_eq!(delays, [15, 20, 60]);
        assert_eq!(world.all("rotations")[0]["userIDs"].as_array().map(Vec::len), Some(1));
        assert_eq!((world.all("escalationPolicies").len(), world.all("rotations").len()), (1, 1));
    }
    oncall["rotation"]["users"] = json!(["nobody"]);
    std::fs::write(changed, oncall.to_string()).expect("a file");
    let (done, text) = provision(&url, directory.path(), &["--oncall", changed]).await;
    assert!(!done && text.contains("there is no user nobody"), "{text}");
}

/// The message that ntfy makes of GoAlert's JSON has the code in it, without which no webhook can be verified.
#[tokio::test]
async fn the_webhook_shows_the_code_and_is_verified_with_it() {
    let (goalert, url, directory) = start().await;
    let ntfy = ["--ntfy-url", "https://ntfy.example/"];
    assert!(provision(&url, directory.path(), &ntfy).await.0);
    let value =
        goalert.0.lock().all("methods")[0]["value"].as_str().expect("an address").to_owned();
    assert!(value.is_ascii() && !value.contains([' ', '{', '"']), "all of it is encoded: {value}");
    let begin = format!(
        "https://ntfy.example/{TOPIC}?tpl=yes&title=%F0%9F%9A%A8%20KrystalineX%20Alert&message="
    );
    let message = value.strip_prefix(&begin).unwrap_or_else(|| panic!("{value}"));
    assert!(
        message.starts_with("%7B%7Bif%20.Code%7D%7Dcode%20%7B%7B.Code%7D%7D%7B%7Belse"),
        "{message}"
    );
    assert!(
        message.contains("%7B%7B.Summary%7D%7D") && message.contains("%7B%7Bend%7D%7D&"),
        "{message}"
    );

    let (done, text) = provision(&url, directory.path(), &["--send-codes"]).await;
    assert!(done && text.contains("--verify first CODE"), "{text}");
    let (done, text) = provision(&url, directory.path(), &["--verify", "first", "123456"]).await;
    assert!(done, "{text}");
    let open = |world: &World| {
        world.all("methods").iter().filter(|method| method["disabled"] == true).count()
    };
    assert_eq!(open(&goalert.0.lock()), 3);
    assert!(!provision(&url, directory.path(), &["--verify", "nobody", "1"]).await.0);
    assert!(!provision(&url, directory.path(), &["--verify", "first", "x"]).await.0);
}

#[tokio::test]
async fn a_refusal_ends_it_and_shows_no_secret() {
    let (goalert, url, directory) = start().await;
    std::fs::write(directory.path().join("goalert-password"), "hush-hush").expect("a file");
    let (done, text) = provision(&url, directory.path(), &[]).await;
    assert!(!done && text.contains("lets admin not in: unknown username/password"), "{text}");
    assert!(!text.contains("hush"), "{text}");
    assert!(goalert.0.lock().things.is_empty());
    let (done, text) = provision("http://127.0.0.1:9", directory.path(), &[]).await;
    assert!(!done, "{text}");
}
