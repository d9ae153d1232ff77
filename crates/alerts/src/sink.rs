//! The two who are told: ntfy and Slack.

use std::fmt;

use bytes::Bytes;
use serde_json::json;

use crate::client::{Client, SendError};
use crate::notice::Notice;
use crate::url::HttpUrl;

/// Where ntfy is, and which of its topics.
#[derive(Clone)]
pub struct NtfySettings {
    /// The server: `https://ntfy.sh`, or one's own.
    pub url: HttpUrl,
    /// The topic. Whoever knows it reads along and can write, so it is a password.
    pub topic: String,
    /// The access token, where the server wants one.
    pub token: Option<String>,
}

impl fmt::Debug for NtfySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NtfySettings").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// A phone.
    Ntfy(NtfySettings),
    /// A channel: an incoming webhook's address.
    Slack(HttpUrl),
}

/// What came of one try.
#[derive(Debug)]
pub(crate) enum Try {
    /// It has it.
    Delivered,
    /// It is there and does not want it: no repeat will change that.
    Refused(u16),
    /// It may want it later.
    Busy(u16),
    /// It is not there.
    Failed(SendError),
}

impl Sink {
    /// Returns its name in metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ntfy(_) => "ntfy",
            Self::Slack(_) => "slack",
        }
    }

    /// Tries once to hand a notice to it.
    pub(crate) async fn send(&self, client: &Client, notice: &Notice) -> Try {
        let answer = match self {
            Self::Ntfy(ntfy) => {
                client.post(&ntfy.url, ntfy.token.as_deref(), ntfy_body(&ntfy.topic, notice)).await
            }
            Self::Slack(url) => client.post(url, None, slack_body(notice)).await,
        };
        match answer {
            Ok(status) if status.is_success() => Try::Delivered,
            Ok(status) if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => {
                Try::Busy(status.as_u16())
            }
            Ok(status) => Try::Refused(status.as_u16()),
            Err(error) => Try::Failed(error),
        }
    }
}

/// ntfy's JSON: a header would have to hide an emoji, and a path would show the topic to every proxy's log.
fn ntfy_body(topic: &str, notice: &Notice) -> Bytes {
    let mut body = json!({
        "topic": topic,
        "title": notice.title,
        "message": notice.text,
        "priority": notice.priority.number(),
        "tags": notice.tags,
    });
    if let Some(link) = &notice.link {
        body["click"] = json!(link);
    }
    Bytes::from(body.to_string())
}

fn slack_body(notice: &Notice) -> Bytes {
    let link = match &notice.link {
        Some(link) if !link.contains(['<', '>', '|']) => format!("\n<{link}|Runbook>"),
        _ => String::new(),
    };
    let text = format!("*{}*\n{}{link}", escaped(&notice.title), escaped(&notice.text));
    Bytes::from(json!({ "text": text }).to_string())
}

/// Slack's three control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::notice::Priority;

    fn notice() -> Notice {
        Notice {
            title: "🚨 SEV1: <!channel> & co".to_owned(),
            text: "x".to_owned(),
            priority: Priority::Urgent,
            tags: vec!["SEV1".to_owned()],
            link: Some("https://example.com/#a".to_owned()),
            identity: 1,
        }
    }

    #[test]
    fn slack_is_given_text_that_calls_nobody() {
        let body: Value = serde_json::from_slice(&slack_body(&notice())).expect("JSON");
        assert_eq!(
            body["text"],
            "*🚨 SEV1: &lt;!channel&gt; &amp; co*\nx\n<https://example.com/#a|Runbook>"
        );
    }

    #[test]
    fn the_topic_is_never_shown() {
        let url = HttpUrl::parse("https://ntfy.sh").expect("it is good");
        let ntfy = NtfySettings { url, topic: "hush".to_owned(), token: Some("hush".to_owned()) };
        assert!(!format!("{:?}", Sink::Ntfy(ntfy)).contains("hush"));
    }
}
