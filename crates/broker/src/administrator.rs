//! Makes a user by the management API: `rabbitmqctl` would show the password to whoever lists processes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::BrokerError;

/// How long the API may take to be there after its port is.
const READY_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// Makes the user `made`, as the user `by`; each is a name and a password.
pub(crate) fn make(port: u16, by: (&str, &str), made: (&str, &str)) -> Result<(), BrokerError> {
    let (name, password) = made;
    let user = json!({"password": password, "tags": "administrator"});
    put(port, by, &format!("/api/users/{name}"), &user)?;
    let permissions = json!({"configure": ".*", "write": ".*", "read": ".*"});
    put(port, by, &format!("/api/permissions/%2F/{name}"), &permissions)
}

fn put(port: u16, by: (&str, &str), path: &str, body: &Value) -> Result<(), BrokerError> {
    let began = Instant::now();
    loop {
        let what = match ask(port, by, path, body) {
            Ok(200..=299) => return Ok(()),
            Ok(status) => format!("answered {status} to PUT {path}"),
            Err(error) => format!("does not answer: {error}"),
        };
        if began.elapsed() > READY_MAX {
            return Err(BrokerError::Management { what });
        }
        std::thread::sleep(RETRY);
    }
}

fn ask(port: u16, by: (&str, &str), path: &str, body: &Value) -> std::io::Result<u16> {
    let body = body.to_string();
    let pair = STANDARD.encode(format!("{}:{}", by.0, by.1));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {pair}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let status = String::from_utf8_lossy(&answer);
    Ok(status.rsplit(' ').next().and_then(|status| status.parse().ok()).unwrap_or(0))
}
