//! `scripts/new-ntfy-topic` and `scripts/notify-test`, as a person runs them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;
use tokio::process::Command;

use crate::support::{Receiver, TOPIC, nowhere, relay};

/// Runs a script with these arguments.
pub(crate) async fn script(name: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
    Command::new(path).args(arguments).output().await.expect("the script can be run")
}

pub(crate) fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The rights that everybody but the owner has to a file.
pub(crate) fn others_rights(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o077
}

fn topic_file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("secrets/topic")
}

#[tokio::test]
async fn a_topic_is_made_once_and_is_its_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = topic_file(&directory);
    let name = path.to_str().expect("UTF-8");
    let made = script("new-ntfy-topic", &[name]).await;
    assert!(made.status.success(), "{}", printed(&made));
    let topic = std::fs::read_to_string(&path).expect("the topic");
    let random = topic.trim().strip_prefix("krystalinex-alerts-").expect("it is ours");
    assert!(random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{topic}");
    assert_eq!(others_rights(&path), 0);
    assert!(!printed(&made).contains(random), "it is not shown unasked");
    assert!(!script("new-ntfy-topic", &[name]).await.status.success(), "a second one is refused");
    let shown = script("new-ntfy-topic", &["--show", name]).await;
    assert_eq!(String::from_utf8_lossy(&shown.stdout), topic);
}

#[tokio::test]
async fn a_test_notice_goes_through_the_relay() {
    let (ntfy, url) = Receiver::start(&[]).await;
    let relay = relay(&url, None).await;
    for (severity, priority) in [("critical", 5), ("warning", 4), ("info", 3), ("resolved", 2)] {
        let sent = script("notify-test", &["--url", &relay, "--severity", severity]).await;
        assert!(sent.status.success(), "{}", printed(&sent));
        let (_, _, body) = ntfy.seen().pop().expect("it came");
        assert_eq!(body["priority"], priority, "{severity}");
        assert!(body["title"].as_str().expect("a title").ends_with("A test: nothing is wrong"));
    }
    assert_eq!(ntfy.seen().len(), 4, "each test rings, however soon after the one before");
}

#[tokio::test]
async fn a_test_notice_goes_to_ntfy_alone() {
    let (ntfy, url) = Receiver::start(&[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let topic = directory.path().join("topic");
    std::fs::write(&topic, format!("{TOPIC}\n")).expect("a file");
    let topic = topic.to_str().expect("UTF-8");
    let arguments =
        ["--via", "ntfy", "--url", &url, "--topic-file", topic, "--severity", "warning"];
    let sent = script("notify-test", &arguments).await;
    assert!(sent.status.success(), "{}", printed(&sent));
    let (uri, _, body) = ntfy.seen().pop().expect("it came");
    assert_eq!((uri.as_str(), &body["topic"], &body["priority"]), ("/", &json!(TOPIC), &json!(4)));
}

#[tokio::test]
async fn a_test_notice_that_does_not_arrive_is_a_failure() {
    let down = nowhere().await;
    let sent = script("notify-test", &["--url", &down]).await;
    assert!(!sent.status.success() && printed(&sent).contains("NOT taken"), "{}", printed(&sent));
    let relay = relay(&nowhere().await, None).await;
    assert!(!script("notify-test", &["--url", &relay]).await.status.success());
}
