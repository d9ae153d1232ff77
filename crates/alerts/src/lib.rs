//! The relay: takes what Alertmanager says and hands it to people's phones (ntfy) and to Slack.
//!
//! Alertmanager gives one URL one priority, so "resolved" would ring as loud as the alert itself; and it must not know the
//! topic, which is a password. GoAlert is not here: Alertmanager talks to it directly, so that a dead relay stops no page.
//!
//! Invariant: each request of Alertmanager is for one sink, and is answered by what that sink said. So Alertmanager repeats,
//! counts and gives up each by itself, nothing is kept here that a crash could lose, and one sink that is down holds no other
//! back. What was delivered is remembered for some minutes: a repeat of half a notice does not ring twice.

mod client;
mod notice;
mod relay;
mod sink;
mod url;
mod webhook;

pub use notice::{Notice, Priority};
pub use relay::{Relay, Settings};
pub use sink::NtfySettings;
pub use url::{HttpUrl, UrlError};
pub use webhook::Webhook;
