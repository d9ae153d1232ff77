//! The sources: what they are called, where they are, and what they call our markets.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// Whose prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Binance's public trade stream, over a WebSocket.
    Binance,
    /// Kraken's public ticker, over HTTP.
    Kraken,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Binance, Self::Kraken];

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Binance => "binance",
            Self::Kraken => "kraken",
        }
    }

    /// Returns the name of the breaker around it.
    pub(crate) fn breaker(self) -> &'static str {
        match self {
            Self::Binance => "price_feed_binance",
            Self::Kraken => "price_feed_kraken",
        }
    }

    fn default_url(self) -> Uri {
        Uri::from_static(match self {
            // Market data alone: no account can be reached there.
            Self::Binance => "wss://data-stream.binance.vision",
            Self::Kraken => "https://api.kraken.com",
        })
    }

    fn schemes(self) -> [&'static str; 2] {
        match self {
            Self::Binance => ["wss", "ws"],
            Self::Kraken => ["https", "http"],
        }
    }

    /// Returns what the source calls one of our markets (`BTC/USD`); `None` where it is not known to have it.
    ///
    /// Binance has no market in dollars: what stands for one is the market in USDT, under its own name.
    #[must_use]
    pub fn instrument(self, market: &str) -> Option<String> {
        let (base, quote) = market.split_once('/')?;
        // A source that is asked for a pair it does not have refuses the whole request: so only what is known is asked for.
        let known = |asset: &str, of: &[&str]| of.contains(&asset);
        if !known(base, &["BTC", "ETH"]) || !known(quote, &["USD", "USDT", "BTC"]) || base == quote
        {
            return None;
        }
        let name = |asset: &str| match (self, asset) {
            (Self::Binance, "USD") => "USDT".to_owned(),
            (Self::Kraken, "BTC") => "XBT".to_owned(),
            _ => asset.to_owned(),
        };
        Some(name(base) + &name(quote))
    }
}

/// A source, with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whose prices.
    pub kind: Kind,
    /// Where: a scheme, a host, a port, a path before the source's own.
    pub(crate) url: Uri,
}

/// Why a text names no source. It never repeats it: it may have a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be binance or kraken, with =URL behind where it is not at its usual address: ws:// or wss:// for binance, \
     http:// or https:// for kraken, without user and query"
)]
pub struct InvalidSource;

impl FromStr for Source {
    type Err = InvalidSource;

    /// Reads `binance`, `kraken`, or either with `=URL`.
    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let (name, url) =
            text.split_once('=').map_or((text, None), |(name, url)| (name, Some(url)));
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(InvalidSource)?;
        let Some(url) = url else { return Ok(Self { kind, url: kind.default_url() }) };
        let url: Uri = url.parse().map_err(|_| InvalidSource)?;
        let scheme = url.scheme_str().is_some_and(|scheme| kind.schemes().contains(&scheme));
        let plain = url.query().is_none() && is_plain(&url);
        (scheme && plain).then_some(Self { kind, url }).ok_or(InvalidSource)
    }
}

/// Tells whether a URL has a host, at most a port behind it, and nothing in front of it.
fn is_plain(url: &Uri) -> bool {
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else { return false };
    let port = authority.as_str().strip_prefix(host).filter(|_| !host.is_empty());
    let number = |port: &str| port.strip_prefix(':')?.parse::<u16>().ok().filter(|port| *port > 0);
    port.is_some_and(|port| port.is_empty() || number(port).is_some())
}

impl Source {
    /// Returns whether its connection is secret.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self.url.scheme_str(), Some("wss" | "https"))
    }

    /// Returns the host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.url.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// Returns the host and port as they stand in a request.
    pub(crate) fn authority(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    /// Returns the path before the source's own.
    pub(crate) fn base_path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind.name(), self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_by_name() {
        let read = |text: &str| text.parse::<Source>();
        let binance = read("binance").expect("it is known");
        assert_eq!((binance.host(), binance.port()), ("data-stream.binance.vision", 443));
        assert!(binance.is_secure());
        let kraken = read("kraken=http://[::1]:8080/proxy/").expect("it is known");
        assert_eq!((kraken.host(), kraken.port(), kraken.base_path()), ("::1", 8080, "/proxy"));
        for text in [
            "",
            "coingecko",
            "Binance",
            "binance=",
            "binance=https://host",
            "kraken=wss://host",
            "kraken=http://",
            "kraken=http://user:pass@host",
            "kraken=http://host:0",
            "kraken=http://host:99999",
            "kraken=http://host/?key=1",
            "kraken=http://ho st",
        ] {
            assert_eq!(read(text), Err(InvalidSource), "{text}");
        }
    }

    #[test]
    fn markets_have_other_names_elsewhere() {
        let names =
            |market: &str| (Kind::Binance.instrument(market), Kind::Kraken.instrument(market));
        let both = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));
        assert_eq!(names("BTC/USD"), both("BTCUSDT", "XBTUSD"));
        assert_eq!(names("BTC/USDT"), both("BTCUSDT", "XBTUSDT"));
        assert_eq!(names("ETH/BTC"), both("ETHBTC", "ETHXBT"));
        for market in ["", "BTC", "BTC/EUR", "DOGE/USD", "BTC/BTC", "BTC/USD/T", "btc/usd"] {
            assert_eq!(names(market), (None, None), "{market}");
        }
    }
}
