//! A source that is asked over HTTP.

use breaker::Breaker;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::dial::dial;
use crate::kraken;
use crate::source::Source;
use crate::work::{Work, jittered};

/// The longest answer. That for five pairs has two thousand bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Asks for as long as it is let. It goes on while the first source is well, so that its prices can bear witness and are there
/// at once when they are needed.
pub(crate) async fn run(work: &Work, source: &Source, breaker: &Breaker) {
    loop {
        let wanted = work.wanted();
        if wanted.is_empty() {
            tokio::time::sleep(work.timing.look).await;
            continue;
        }
        match breaker.permit() {
            Err(refused) => {
                work.failed("the circuit breaker is open");
                tokio::time::sleep(jittered(refused.retry_in)).await;
                continue;
            }
            Ok(permit) => {
                let asking = ask(source, &wanted);
                match tokio::time::timeout(work.timing.answer_max, asking).await {
                    Ok(Ok(quotes)) => {
                        permit.succeeded();
                        work.connected();
                        quotes.iter().for_each(|quote| {
                            let _ = work.take(quote);
                        });
                    }
                    Ok(Err(why)) => {
                        permit.failed();
                        work.failed(why);
                    }
                    Err(_) => {
                        permit.failed();
                        work.failed("it does not answer");
                    }
                }
            }
        }
        tokio::time::sleep(jittered(work.timing.poll)).await;
    }
}

/// Asks once, on a connection of its own. Redirects are not followed.
async fn ask(
    source: &Source,
    wanted: &[String],
) -> Result<Vec<crate::binance::Quote>, &'static str> {
    let stream = dial(source).await.map_err(|error| {
        tracing::debug!(feed = source.kind.name(), %error, "a price feed cannot be reached");
        "it cannot be reached"
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| "it cannot be reached")?;
    let request = Request::get(kraken::path(source, wanted))
        .header(header::HOST, source.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("krystalinex/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "its address cannot be asked")?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|_| "it gives no answer")?;
        if response.status() != StatusCode::OK {
            return Err("it refuses");
        }
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|_| "its answer broke off or is too long")?;
        kraken::read(&body.to_bytes(), wanted)
    };
    // The connection lives as long as the question: nothing goes on behind it.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answered = &mut answer => return answered,
        _ = &mut connection => {}
    }
    answer.await
}
