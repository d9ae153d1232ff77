//! The alert relay: where it listens, whom it tells.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alerts::{HttpUrl, NtfySettings};

use super::{Reader, Role, ip};

/// Longest secret that a file may have in it, in bytes.
const SECRET_BYTES_MAX: u64 = 4_096;

/// What the alert relay is told.
#[derive(Clone, Debug)]
pub struct AlertRelay {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Whom it tells.
    pub settings: alerts::Settings,
}

/// Reads it for the relay, and for `up`, which runs one where it is said whom to tell; the other roles need none of it.
pub(super) fn read(role: Role, reader: &mut Reader<'_>) -> Option<AlertRelay> {
    let said = |name| reader.text(name).is_some();
    let wanted = match role {
        Role::AlertRelay => true,
        Role::Up => said("KX_NTFY_TOPIC") || said("KX_NTFY_TOPIC_FILE"),
        _ => false,
    };
    if !wanted {
        return None;
    }
    let listen = reader.read("KX_ALERT_LISTEN", "an IP address", ip);
    let port = reader.port("ALERT_RELAY_PORT");
    let url = reader
        .read("KX_NTFY_URL", "an http:// or https:// address", |text| HttpUrl::parse(text).ok());
    let topic = topic(reader);
    let token = secret_file("KX_NTFY_TOKEN_FILE", reader);
    let token = token.filter(|token| {
        let good = token.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            reader.faults.push("KX_NTFY_TOKEN_FILE: what is in it is no token".to_owned());
        }
        good
    });
    let slack = secret_file("KX_ALERT_SLACK_URL_FILE", reader);
    let slack = slack.and_then(|text| {
        let url = HttpUrl::parse(&text);
        url.map_err(|error| reader.faults.push(format!("KX_ALERT_SLACK_URL_FILE: {error}"))).ok()
    });
    let address = SocketAddr::new(listen.unwrap_or(IpAddr::from([127, 0, 0, 1])), port);
    let ntfy = NtfySettings { url: url?, topic: topic?, token };
    Some(AlertRelay { address, settings: alerts::Settings { ntfy, slack } })
}

/// The topic, from the one place or the other.
fn topic(reader: &mut Reader<'_>) -> Option<String> {
    let said = reader.text("KX_NTFY_TOPIC");
    let (name, topic) = match (said, reader.text("KX_NTFY_TOPIC_FILE").is_some()) {
        (Some(_), true) => {
            let text = "KX_NTFY_TOPIC, KX_NTFY_TOPIC_FILE: both are set";
            reader.faults.push(text.to_owned());
            return None;
        }
        (Some(topic), false) => ("KX_NTFY_TOPIC", topic),
        (None, true) => ("KX_NTFY_TOPIC_FILE", secret_file("KX_NTFY_TOPIC_FILE", reader)?),
        (None, false) => {
            let text = "KX_NTFY_TOPIC: it is not set; scripts/new-ntfy-topic makes a file for KX_NTFY_TOPIC_FILE";
            reader.faults.push(text.to_owned());
            return None;
        }
    };
    // ntfy's own rule.
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if topic.len() > 64 || !topic.bytes().all(letter) {
        let rule = "a topic is up to 64 letters, digits, - and _";
        reader.faults.push(format!("{name}: {rule}"));
        return None;
    }
    Some(topic)
}

/// Reads a secret from the file that a setting names; the file must be its owner's alone.
fn secret_file(name: &str, reader: &mut Reader<'_>) -> Option<String> {
    let path = reader.text(name)?;
    match read_secret(Path::new(&path)) {
        Ok(secret) => Some(secret),
        Err(reason) => {
            reader.faults.push(format!("{name}={path}: {reason}"));
            None
        }
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let facts = fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if !facts.is_file() || facts.len() > SECRET_BYTES_MAX {
        return Err("it is no file, or too large for a secret".to_owned());
    }
    if facts.permissions().mode() & 0o077 != 0 {
        return Err("others than its owner may read it: chmod 600".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let text = text.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(environment: &[(&'static str, &str)]) -> (Option<AlertRelay>, Vec<String>) {
        let environment =
            environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let file = BTreeMap::new();
        let mut reader = Reader { file: &file, environment: &environment, faults: Vec::new() };
        let relay = read(Role::AlertRelay, &mut reader);
        (relay, reader.faults)
    }

    fn file(directory: &tempfile::TempDir, text: &str, mode: u32) -> String {
        let path = directory.path().join(format!("secret-{mode:o}-{}", text.len()));
        fs::write(&path, text).expect("the directory can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        path.display().to_string()
    }

    #[test]
    fn a_topic_is_all_that_the_relay_needs() {
        let (relay, faults) = load(&[("KX_NTFY_TOPIC", "krystalinex-alerts-a1b2c3d4e5f60718")]);
        let relay = relay.expect("that is enough");
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(relay.address.to_string(), "127.0.0.1:8082");
        assert!(relay.settings.slack.is_none() && relay.settings.ntfy.token.is_none());
        assert_eq!(relay.settings.ntfy.url.host(), "ntfy.sh");
    }

    #[test]
    fn secrets_come_from_files_of_their_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let topic = file(&directory, "topic-1\n", 0o600);
        let token = file(&directory, "tk_0123456789", 0o400);
        let slack = file(&directory, "https://hooks.example/services/T/B/x\n", 0o600);
        let all = [
            ("KX_NTFY_TOPIC_FILE", topic.as_str()),
            ("KX_NTFY_TOKEN_FILE", &token),
            ("KX_ALERT_SLACK_URL_FILE", &slack),
        ];
        let (relay, faults) = load(&all);
        assert!(faults.is_empty(), "{faults:?}");
        let settings = relay.expect("it is good").settings;
        assert_eq!(settings.ntfy.topic, "topic-1");
        assert_eq!(settings.ntfy.token.as_deref(), Some("tk_0123456789"));
        assert_eq!(settings.slack.expect("it is set").host(), "hooks.example");

        let open = file(&directory, "hush-hush", 0o644);
        let (relay, faults) = load(&[("KX_NTFY_TOPIC_FILE", &open)]);
        assert!(relay.is_none());
        assert!(faults.len() == 1 && faults[0].ends_with("chmod 600"), "{faults:?}");
    }

    #[test]
    fn every_fault_is_reported_and_no_secret_is_printed() {
        let directory = tempfile::tempdir().expect("a directory");
        let bad = file(&directory, "hush hush", 0o600);
        let (relay, faults) = load(&[
            ("KX_NTFY_TOPIC", "hush hush"),
            ("KX_NTFY_URL", "ntfy.sh"),
            ("KX_NTFY_TOKEN_FILE", &bad),
            ("KX_ALERT_SLACK_URL_FILE", &bad),
            ("ALERT_RELAY_PORT", "x"),
            ("KX_ALERT_LISTEN", "here"),
        ]);
        assert!(relay.is_none());
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(!faults.concat().contains("hush"), "{faults:?}");
        let both = [("KX_NTFY_TOPIC", "a"), ("KX_NTFY_TOPIC_FILE", bad.as_str())];
        assert_eq!(load(&both).1.len(), 1);
        assert_eq!(load(&[]).1.len(), 1);
    }
}
