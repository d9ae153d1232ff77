//! An address that notices are sent to.
//!
//! Invariant: its path is never shown. A topic and a webhook's key are in there.

use std::fmt;

use http::Uri;

/// Longest address that is taken, in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an http:// or https:// address without a user, a query or a fragment")]
pub struct UrlError;

/// An HTTP address: scheme, host, port, path.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl HttpUrl {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`UrlError`]; what was said is not repeated in it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX || text.contains(['?', '#', '@']) {
            return Err(UrlError);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(UrlError)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Returns whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the host; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what the header `Host` says.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let url = HttpUrl::parse("https://ntfy.sh").expect("it is good");
        assert_eq!((url.is_tls(), url.host(), url.port(), url.path()), (true, "ntfy.sh", 443, "/"));
        assert_eq!(url.authority(), "ntfy.sh");
        let url = HttpUrl::parse("http://[::1]:8080/a/b/").expect("it is good");
        assert_eq!(
            (url.is_tls(), url.host(), url.port(), url.path()),
            (false, "::1", 8080, "/a/b")
        );
        assert_eq!(url.authority(), "[::1]:8080");
    }

    #[test]
    fn what_is_no_plain_address_is_refused() {
        let long = format!("http://a/{}", "x".repeat(URL_BYTES_MAX));
        let cases = [
            "",
            "ntfy.sh",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?b",
            "http://a#b",
            &long,
        ];
        for text in cases {
            assert_eq!(HttpUrl::parse(text), Err(UrlError), "{text}");
        }
    }

    #[test]
    fn its_path_is_never_shown() {
        let url = HttpUrl::parse("https://hooks.example/services/T0/secret").expect("it is good");
        assert_eq!(format!("{url:?}"), "https://hooks.example/…");
    }
}
