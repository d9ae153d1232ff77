//! The least HTTP/1.1 client that can load a server on the machine it shares with it: requests are bytes made
//! beforehand, answers are read for their status and length.
//!
//! Invariant: one request is in flight per connection, so an answer belongs to the last request.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest answer that is taken, in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// How long a blocking client waits for an answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the body as JSON.
    ///
    /// # Errors
    ///
    /// The body is none, or the status is not 2xx: with the body's text.
    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        let text = String::from_utf8_lossy(&self.body);
        if !(200..300).contains(&self.status) {
            anyhow::bail!("HTTP {}: {text}", self.status);
        }
        serde_json::from_slice(&self.body).map_err(|error| anyhow::anyhow!("{error}: {text}"))
    }
}

/// Where an answer's head ends, and how long its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body: usize,
}

/// Makes a request's bytes.
pub(crate) fn request(
    method: &str,
    path: &str,
    host: SocketAddr,
    token: Option<&str>,
    body: Option<&str>,
) -> Vec<u8> {
    let token = token.map(|token| ("authorization", format!("Bearer {token}")));
    request_with(method, path, host, token.as_slice(), body)
}

/// The same with headers of its own.
pub(crate) fn request_with(
    method: &str,
    path: &str,
    host: SocketAddr,
    headers: &[(&str, String)],
    body: Option<&str>,
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text.into_bytes()
}

/// Reads an answer's head; `None` while it is not all there.
fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > REPLY_BYTES_MAX { Err(bad("an endless head")) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("a head that is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let mut body = 0;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().map_err(|_| bad("no length"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("a chunked body"));
        }
    }
    if body > REPLY_BYTES_MAX {
        return Err(bad("an endless body"));
    }
    Ok(Some(Head { status, bytes: end + 4, body }))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has {what}"))
}

/// A connection that waits for answers without a thread.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: tokio::net::TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and returns its answer's status; the body is dropped.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the answer is none.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<u16> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = head(&self.buffer)? else { continue };
            let whole = head.bytes + head.body;
            while self.buffer.len() < whole {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.buffer.drain(..head.bytes);
            return Ok(head.status);
        }
    }

    /// Sends a request and returns the whole answer.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the answer is none.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        let status = self.send(request).await?;
        Ok(Reply { status, body: self.buffer.clone() })
    }
}

/// A connection that blocks its thread.
#[derive(Debug)]
pub(crate) struct Blocking {
    stream: std::net::TcpStream,
    buffer: Vec<u8>,
}

impl Blocking {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and returns its answer.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the answer is none.
    pub(crate) fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.buffer.clear();
        self.stream.write_all(request)?;
        let mut piece = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&piece[..read]);
            let Some(head) = head(&self.buffer)? else { continue };
            if self.buffer.len() >= head.bytes + head.body {
                let body = self.buffer[head.bytes..head.bytes + head.body].to_vec();
                return Ok(Reply { status: head.status, body });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_all_there() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(head(&text[..20]).expect("no fault yet"), None);
        let read = head(text).expect("well formed");
        assert_eq!(read, Some(Head { status: 201, bytes: text.len() - 2, body: 2 }));
    }
}
