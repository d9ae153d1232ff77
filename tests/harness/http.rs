//! A blocking HTTP/1.1 client: one connection, kept alive, nothing hidden.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than the server ever takes: it answers 202 after five seconds.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A client of one address. Every request is sent once: what is unknown stays unknown.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    token: Option<String>,
    patience: Duration,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the JSON body of an answer that must have this status.
    ///
    /// # Panics
    ///
    /// When it has another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }
}

impl Http {
    /// Makes a client; connects at the first request.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, token: None, patience: ANSWER_MAX }
    }

    /// Returns the address that it asks.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends this bearer token with every request from now on.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Returns the bearer token that it sends.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Makes another client of the same address with the same token, and a connection of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { address: self.address, connection: None, token: self.token.clone(), ..*self }
    }

    /// Waits this long for a connection and for each part of an answer, instead of longer than the server ever takes.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a GET.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, &[], None)
    }

    /// Sends a POST with a JSON body.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.send("POST", path, &[], Some(body))
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// The connection's. Whether the server has read the request is then unknown.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        if let Some(token) = &self.token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            let body = body.to_string();
            let length = body.len();
            request += &format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        } else {
            request += "\r\n";
        }
        let answer = self.exchange(&request);
        if !answer.as_ref().is_ok_and(keeps_alive) {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_nodelay(true)?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().expect("it was just made");
        connection.get_mut().write_all(request.as_bytes())?;
        read_answer(connection)
    }
}

fn keeps_alive(answer: &Answer) -> bool {
    let closes = |(name, value): &(String, String)| name == "connection" && value == "close";
    !answer.headers.iter().any(closes)
}

fn read_answer(from: &mut impl BufRead) -> io::Result<Answer> {
    let first = read_line(from)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, v)| v);
    let body = if let Some(length) = header("content-length") {
        read_exactly(from, length.parse().map_err(|_| bad())?)?
    } else if header("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        read_chunks(from)?
    } else {
        Vec::new()
    };
    Ok(Answer { status, headers, body: String::from_utf8(body).map_err(|_| bad())? })
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&read_line(from)?, 16).map_err(|_| bad())?;
        body.extend(read_exactly(from, length)?);
        read_line(from)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn read_exactly(from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.by_ref().read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "that is no HTTP/1.1 answer")
}
