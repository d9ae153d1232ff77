//! What a request may carry, taken strictly: JSON bodies, queries, path segments, and the headers of the API.
//!
//! Invariant: what cannot be read is answered 400, 413 or 415 before any handler runs, and nothing is guessed: no unknown
//! field, no field twice, no other character set, no compressed body.

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::keys::RequestSignature;
use crate::problem::{Code, Problem};

/// The longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1_024;
/// The longest `Idempotency-Key`, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// A JSON body.
pub struct Json<T> {
    /// What it says.
    pub value: T,
    /// A hash of its bytes, by which a repeat with another body is found out.
    pub hash: u64,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let bytes = read(request.into_body(), app).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, hash: hash(&bytes) })
    }
}

/// A JSON body that may be left out.
pub struct OptionalJson<T>(pub Option<T>);

impl<T: DeserializeOwned> FromRequest<App> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, app).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        check_type(&parts.headers)?;
        // `null` is a way to say that there is nothing.
        Ok(Self(parse(&bytes)?))
    }
}

/// Returns the hash of a body, or of what stands for one.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::TypeUnsupported).detail(detail));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(kind) = kind else {
        return refused("Content-Type must be application/json.");
    };
    let mut parts = kind.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return refused("Content-Type must be application/json.");
    }
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let utf8 = value.trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.eq_ignore_ascii_case("charset") && !utf8 {
            return refused("The character set must be UTF-8.");
        }
    }
    let coding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return refused("The body must not be compressed.");
    }
    Ok(())
}

pub(crate) async fn read(body: Body, app: &App) -> Result<Bytes, Problem> {
    // What is announced to be too long need not be sent first.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(Problem::new(Code::BodyTooLarge));
    }
    let collect = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(app.config.body_timeout, collect).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(Code::BodyTooLarge)),
        Ok(Err(_)) => Err(Problem::new(Code::BodyMalformed).detail("The body was cut off.")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Problem::new(Code::BodyMalformed).detail("The body is not UTF-8."))?;
    // serde_json stops at a depth of 128, so no nesting overflows the stack.
    serde_json::from_str(text)
        .map_err(|error| Problem::new(Code::BodyMalformed).detail(format!("{error}.")))
}

/// A query, with no parameter but the known ones.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| Problem::new(Code::QueryMalformed).detail(error.body_text()))
    }
}

/// The one variable segment of a path. One that cannot be decoded names nothing.
pub struct Segment(pub String);

impl FromRequestParts<App> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, app)
            .await
            .map(|axum::extract::Path(segment)| Self(segment))
            .map_err(|_| Problem::new(Code::NotFound))
    }
}

/// By what a repeat of a request is known.
pub struct RequestKey {
    text: Option<String>,
    is_lasting: bool,
}

impl RequestKey {
    /// Returns the text that names the command: the `Idempotency-Key`, or else the signature, so that a signed request
    /// that is sent again to another server is the same command there.
    #[must_use]
    pub fn as_deref(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Tells whether it holds for ever. A signature need not: it is refused within seconds.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.is_lasting
    }
}

/// The `Idempotency-Key`, if there is one, or what stands for it.
pub struct IdempotencyKey(pub RequestKey);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            let signature = parts.extensions.get::<RequestSignature>();
            // No header has a space in it where it is taken, so no key is a signature's.
            let text = signature.map(|signature| format!("signature {}", signature.0));
            return Ok(Self(RequestKey { text, is_lasting: false }));
        };
        let fits = (1..=KEY_BYTES_MAX).contains(&value.len());
        match value.to_str() {
            Ok(text) if fits && values.next().is_none() => {
                Ok(Self(RequestKey { text: Some(text.to_owned()), is_lasting: true }))
            }
            _ => {
                let rule = "must be given once, with 1 to 64 visible ASCII characters";
                Err(Problem::value("Idempotency-Key", "idempotency_key_invalid", rule))
            }
        }
    }
}

/// Reads a page's size.
///
/// # Errors
///
/// A refusal that names the nearest size that would pass.
pub fn page_size(text: Option<&str>) -> Result<usize, Problem> {
    const DEFAULT: usize = 50;
    const MAX: usize = 500;
    let Some(text) = text else {
        return Ok(DEFAULT);
    };
    let refused = |nearest: &str| {
        Problem::value("limit", "limit_out_of_range", "must be a whole number from 1 to 500")
            .nearest(nearest)
    };
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(size) if plain && (1..=MAX).contains(&size) => Ok(size),
        Ok(size) if plain && size > MAX => Err(refused("500")),
        Err(_) if plain => Err(refused("500")),
        _ => Err(refused("1")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only whether it can be read matters here")]
        name: Option<String>,
    }

    #[test]
    fn what_is_not_the_json_that_is_taken_is_malformed() {
        assert!(parse::<Body>(br#"{"name":"x"}"#).is_ok());
        let deep = "[".repeat(10_000);
        let long = "{\"name\":".repeat(10_000);
        for text in [
            "",
            "{",
            "nonsense",
            r#"{"name":1}"#,
            r#"{"name":"x","name":"y"}"#,
            r#"{"role":"admin"}"#,
            r#"{"name":"x"} x"#,
            "NaN",
            "\"\\ud800\"",
            deep.as_str(),
            long.as_str(),
        ] {
            let problem = parse::<Body>(text.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::BodyMalformed, "{text}");
        }
        assert_eq!(parse::<Body>(b"{\"name\":\"\xff\"}").unwrap_err().code(), Code::BodyMalformed);
    }

    #[test]
    fn only_plain_json_in_utf8_is_taken() {
        let check = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            check_type(&headers).map_err(|problem| problem.code())
        };
        assert_eq!(check("application/json"), Ok(()));
        assert_eq!(check("Application/JSON; charset=UTF-8"), Ok(()));
        for kind in
            ["text/plain", "application/json; charset=utf-16", "multipart/form-data", "json"]
        {
            assert_eq!(check(kind), Err(Code::TypeUnsupported), "{kind}");
        }
        let mut packed = HeaderMap::new();
        packed.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        packed.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(check_type(&packed).unwrap_err().code(), Code::TypeUnsupported);
        assert_eq!(check_type(&HeaderMap::new()).unwrap_err().code(), Code::TypeUnsupported);
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(None).unwrap(), 50);
        assert_eq!(page_size(Some("500")).unwrap(), 500);
        for text in
            ["-1", "0", "501", "1000000000", "99999999999999999999999", "", "1e2", "+5", "x"]
        {
            assert_eq!(page_size(Some(text)).unwrap_err().code(), Code::ValueInvalid, "{text}");
        }
    }
}
