//! The real Alertmanager with the real configuration: one alert to both receivers, and its end.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::scripts::{printed, script};
use crate::support::{Receiver, ask, relay};

const KEY: &str = "integration-key-1";
/// `group_wait` and `group_interval` take half a minute; a slow machine takes what it takes.
const PATIENCE: Duration = Duration::from_secs(180);

async fn until(what: &str, mut seen: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !seen().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Starts Alertmanager with `config/alertmanager.yml`, in which only the addresses are others.
async fn alertmanager(directory: &Path, goalert: &str, relay: &str) -> (Child, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/alertmanager.yml");
    let config = std::fs::read_to_string(path).expect("the configuration");
    let config =
        config.replace("http://localhost:8081", goalert).replace("http://localhost:8082", relay);
    std::fs::create_dir(directory.join("secrets")).expect("a directory");
    std::fs::write(directory.join("secrets/goalert-key"), KEY).expect("a file");
    std::fs::write(directory.join("alertmanager.yml"), config).expect("a file");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("it listens").to_string();
    drop(free);
    let child = Command::new("prometheus-alertmanager")
        .arg(format!("--config.file={}", directory.join("alertmanager.yml").display()))
        .arg(format!("--storage.path={}", directory.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("apt-get install prometheus-alertmanager");
    until("Alertmanager is ready", async || tokio::net::TcpStream::connect(&address).await.is_ok())
        .await;
    let url = format!("http://{address}");
    until("Alertmanager is ready", async || {
        ask("GET", &format!("{url}/-/ready"), "").await.0 == 200
    })
    .await;
    (child, url)
}

#[tokio::test]
async fn a_critical_alert_reaches_goalert_and_ntfy_and_so_does_its_end() {
    let (goalert, goalert_url) = Receiver::start(&[]).await;
    let (ntfy, ntfy_url) = Receiver::start(&[]).await;
    let relay = relay(&ntfy_url, None).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (_child, url) = alertmanager(directory.path(), &goalert_url, &relay).await;

    let sent = script("notify-test", &["--via", "alertmanager", "--url", &url]).await;
    assert!(sent.status.success(), "{}", printed(&sent));
    until("both are told", async || !goalert.seen().is_empty() && !ntfy.seen().is_empty()).await;
    let (uri, token, body) = goalert.seen().swap_remove(0);
    assert_eq!(uri, "/api/v2/prometheusalertmanager/incoming", "the key is in no address");
    assert_eq!(token, Some(format!("Bearer {KEY}")));
    assert_eq!(body["status"], "firing");
    // What GoAlert makes its own summary of, and finds the alert again by.
    assert_eq!(body["commonAnnotations"]["summary"], "A test: nothing is wrong");
    assert_eq!(ntfy.seen()[0].2["priority"], 5);

    until("both are told of its end", async || {
        goalert.seen().iter().any(|(_, _, body)| body["status"] == "resolved")
            && ntfy.seen().iter().any(|(_, _, body)| body["priority"] == 2)
    })
    .await;
    let summaries: Vec<_> = goalert
        .seen()
        .iter()
        .map(|(_, _, body)| body["commonAnnotations"]["summary"].clone())
        .collect();
    assert!(summaries.iter().all(|summary| summary == &summaries[0]), "{summaries:?}");
}
