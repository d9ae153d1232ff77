//! One plain question over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long it may be.
const BYTES_MAX: u64 = 16 << 20;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A host and a port.
#[derive(Debug)]
pub(super) struct Place {
    address: String,
}

impl Place {
    /// Reads `http://host:port`.
    pub(super) fn of(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.contains(['/', '@'])) else {
            bail!("{url}: an address is http://host:port");
        };
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { rest.to_owned() } else { format!("{rest}:80") };
        Ok(Self { address })
    }

    /// Asks for a path.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let asked = tokio::time::timeout(ANSWER_MAX, self.ask(path));
        asked.await.with_context(|| format!("{} does not answer in time", self.address))?
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        let address = &self.address;
        let stream = TcpStream::connect(address.as_str());
        let mut stream = stream.await.with_context(|| format!("nobody answers at {address}"))?;
        // HTTP/1.0: the answer comes in one piece, and its end is the connection's.
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(BYTES_MAX).read_to_end(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").context("what answers is not HTTP")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.context("what answers is not HTTP")?;
        Ok(Answer { status, body: body.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_may_have_a_port() {
        let address = |url| Place::of(url).map(|place| place.address).ok();
        assert_eq!(address("http://a.example:5000/"), Some("a.example:5000".to_owned()));
        assert_eq!(address("http://a.example"), Some("a.example:80".to_owned()));
        for wrong in ["a.example:5000", "https://a", "http://", "http://u:p@a", "http://a/b"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
