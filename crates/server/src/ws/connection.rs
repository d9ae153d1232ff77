//! One WebSocket connection: reads requests within their limits, writes what its channels bring.
//!
//! Invariant: whatever a client sends or does not read, the connection's memory is bounded and nobody else waits for
//! it. An access token is taken in an `auth` request alone, never from the URL, and holds until its time is over or
//! its session is revoked.

mod sign_in;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket, close_code};
use telemetry::Metric;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use sign_in::SignedIn;

use super::channel::{Channel, Own, OwnSet};
use super::message::{Message, Request};
use super::missed;
use super::outbox::Outbox;
use crate::app::App;
use crate::edge::Context;
use crate::keys::Claim;
use crate::market_data::MarketData;
use crate::rates;

/// The longest message of a client, in bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1_024;
/// Channels of one connection.
const CHANNELS_MAX: usize = 64;
/// Frames that a client may send at once; pings count.
const FRAMES_MAX: u32 = 50;
/// Frames that a client may send a second in the long run.
const FRAMES_PER_SECOND_MAX: u32 = 20;
/// Seconds between heartbeats.
pub(super) const HEARTBEAT_SECONDS: u64 = 15;
/// A client that says nothing for so long, not even a pong, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long one frame may take to be written.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How long the client is given to answer the close.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether the access token still holds.
const RECHECK: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has gone.
    Gone,
    /// A request that is none.
    Unreadable,
    /// Too many frames.
    Flood,
    /// Too long a message.
    TooLarge,
    /// It does not read.
    Slow,
    /// It has been silent.
    Silent,
    /// This server stops.
    Shutdown,
}

impl End {
    /// The close code, the reason in words, and the name that is counted.
    const fn close(self) -> Option<(u16, &'static str, &'static str)> {
        match self {
            Self::Gone => None,
            Self::Unreadable => Some((close_code::POLICY, "not a request", "unreadable")),
            Self::Flood => Some((close_code::POLICY, "too many messages", "flood")),
            Self::TooLarge => Some((close_code::SIZE, "a message is too large", "too_large")),
            Self::Slow => Some((close_code::AGAIN, "read faster, or listen to less", "slow")),
            Self::Silent => Some((close_code::POLICY, "no sign of life", "silent")),
            Self::Shutdown => Some((close_code::RESTART, "this server stops", "shutdown")),
        }
    }
}

/// A connection.
struct Connection {
    app: App,
    data: Arc<MarketData>,
    context: Context,
    outbox: Outbox,
    channels: HashSet<Channel>,
    signed_in: Option<SignedIn>,
    frames: Allowance,
    heard_at: Instant,
}

/// Frames that a client may still send.
struct Allowance {
    left: u32,
    refilled_at: Instant,
}

/// Serves one connection until it ends.
pub(super) async fn serve(app: App, context: Context, mut socket: WebSocket) {
    let data = Arc::clone(&app.market_data);
    let (outbox, mut messages) = Outbox::new();
    let mut connection = Connection {
        app,
        data,
        context,
        outbox,
        channels: HashSet::new(),
        signed_in: None,
        frames: Allowance { left: FRAMES_MAX, refilled_at: Instant::now() },
        heard_at: Instant::now(),
    };
    connection.welcome();
    let end = connection.run(&mut socket, &mut messages).await;
    connection.leave();
    if let Some((code, reason, name)) = end.close() {
        if end != End::Shutdown {
            telemetry::add_labelled(Metric::WebSocketDropped, &[name], 1);
        }
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Whoever does not read does not get it either.
        if let Ok(Ok(())) = timeout(WRITE_MAX, socket.send(Frame::Close(Some(frame)))).await {
            linger(&mut socket, end).await;
        }
    }
}

/// Reads on for a moment after the close frame: a socket that is closed with unread bytes takes back what it has sent,
/// and the client would never learn why.
async fn linger(socket: &mut WebSocket, end: End) {
    let until = Instant::now() + LINGER_MAX;
    while let Ok(Some(Ok(frame))) = timeout_at(until, socket.recv()).await {
        if matches!(frame, Frame::Close(_)) {
            return;
        }
    }
    if end == End::TooLarge {
        // After a message beyond the limit nothing can be read any more; waiting is all there is.
        sleep_until(until).await;
    }
}

impl Connection {
    async fn run(
        &mut self,
        socket: &mut WebSocket,
        messages: &mut mpsc::Receiver<Utf8Bytes>,
    ) -> End {
        let mut heartbeat = interval(Duration::from_secs(HEARTBEAT_SECONDS));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut recheck = interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = self.app.draining();
        let outbox = self.outbox.clone();
        loop {
            let write = tokio::select! {
                () = outbox.cut() => return End::Slow,
                () = told(&mut draining) => return self.say_goodbye(socket).await,
                message = messages.recv() => match message {
                    Some(text) => Frame::Text(text),
                    None => return End::Gone,
                },
                frame = socket.recv() => match frame {
                    Some(Ok(frame)) => match self.take(frame).await {
                        Ok(()) => continue,
                        Err(end) => return end,
                    },
                    Some(Err(error)) if is_too_long(&error) => return End::TooLarge,
                    Some(Err(_)) | None => return End::Gone,
                },
                _ = recheck.tick() => {
                    self.recheck().await;
                    if self.heard_at.elapsed() > SILENCE_MAX {
                        return End::Silent;
                    }
                    continue;
                }
                _ = heartbeat.tick() => {
                    self.beat();
                    Frame::Ping(bytes::Bytes::new())
                }
            };
            match timeout(WRITE_MAX, socket.send(write)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Slow,
            }
        }
    }

    fn send(&self, message: &Message<'_>) {
        // A queue that is full ends the connection by itself.
        self.outbox.send(message.text());
    }

    fn welcome(&self) {
        let (sequence, time) = self.now();
        let heartbeat_seconds = HEARTBEAT_SECONDS;
        self.send(&Message::Welcome { version: 1, sequence, time, heartbeat_seconds });
    }

    fn now(&self) -> (u64, wire::time::Timestamp) {
        (self.data.sequence().get(), self.data.live().journal_now().into())
    }

    fn beat(&self) {
        let (sequence, time) = self.now();
        self.send(&Message::Heartbeat { sequence, time });
        if self.channels.contains(&Channel::Status) {
            self.data.status.listen(&self.data, &self.outbox);
        }
    }

    async fn say_goodbye(&self, socket: &mut WebSocket) -> End {
        // Spread over a few seconds, so that not everybody comes back at once.
        let reconnect_after_ms = rand::random_range(500..5_000);
        let text = Message::Shutdown { reconnect_after_ms }.text();
        let _ = timeout(WRITE_MAX, socket.send(Frame::Text(text))).await;
        End::Shutdown
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        self.heard_at = Instant::now();
        let user = self.signed_in.as_ref().map(|signed_in| signed_in.principal);
        if !self.frames.take() || !rates::take_message(&self.app, &self.context, user) {
            return Err(End::Flood);
        }
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Ping(_) | Frame::Pong(_) => return Ok(()),
            Frame::Close(_) => return Err(End::Gone),
            Frame::Binary(_) => return Err(End::Unreadable),
        };
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(End::TooLarge);
        }
        match serde_json::from_str::<Request>(&text) {
            Ok(request) => self.carry_out(request).await,
            Err(error) => {
                let message = format!("not a request: {error}");
                self.refuse(None, "request_malformed", message, None);
            }
        }
        Ok(())
    }

    fn refuse(
        &self,
        id: Option<u64>,
        code: &'static str,
        message: String,
        channel: Option<String>,
    ) {
        self.send(&Message::Error { id, code, message, channel });
    }

    fn accept(&self, id: Option<u64>, op: &'static str, channels: Vec<String>) {
        let (incarnation, expires_in_seconds) = (None, None);
        self.send(&Message::Ok { id, op, channels, incarnation, expires_in_seconds });
    }

    async fn carry_out(&mut self, request: Request) {
        match request {
            Request::Ping { id } => {
                let (_, time) = self.now();
                self.send(&Message::Pong { id, time });
            }
            Request::Auth { id, token } => self.auth(id, token),
            Request::AuthKey { id, key, timestamp, signature } => {
                let claim = Claim { key: &key, timestamp: &timestamp, signature: &signature };
                self.auth_key(id, claim).await;
            }
            Request::Subscribe { id, channels } => self.subscribe(id, &channels),
            Request::Unsubscribe { id, channels } => self.unsubscribe(id, &channels),
            Request::Resume { id, account_sequence, channels, incarnation } => {
                self.resume(id, account_sequence, channels, incarnation).await;
            }
        }
    }

    /// Reads channels' names; the first that names nothing refuses them all.
    fn channels(&self, id: Option<u64>, names: &[String]) -> Option<Vec<Channel>> {
        let mut channels = Vec::new();
        for name in names.iter().take(CHANNELS_MAX + 1) {
            let channel = Channel::parse(name).filter(|channel| self.exists(channel));
            let Some(channel) = channel else {
                let message = "there is no such channel".to_owned();
                let short: String = name.chars().take(64).collect();
                self.refuse(id, "channel_unknown", message, Some(short));
                return None;
            };
            if matches!(channel, Channel::Own(_)) && self.signed_in.is_none() {
                let message = "show an access token first".to_owned();
                self.refuse(id, "unauthenticated", message, Some(channel.name()));
                return None;
            }
            channels.push(channel);
        }
        Some(channels)
    }

    fn exists(&self, channel: &Channel) -> bool {
        match channel {
            Channel::Book(market) | Channel::Trades(market) | Channel::Ticker(market) => {
                self.data.market(market).is_some()
            }
            Channel::Candles(market, _) => self.data.market(market).is_some(),
            Channel::Status | Channel::Own(_) => true,
        }
    }

    fn subscribe(&mut self, id: Option<u64>, names: &[String]) {
        let Some(channels) = self.channels(id, names) else { return };
        let all: HashSet<Channel> = self.channels.iter().chain(&channels).cloned().collect();
        if names.len() > CHANNELS_MAX || all.len() > CHANNELS_MAX {
            let message = format!("one connection may listen to {CHANNELS_MAX} channels");
            return self.refuse(id, "too_many_channels", message, None);
        }
        self.accept(id, "subscribe", channels.iter().map(Channel::name).collect());
        let own: OwnSet = own_of(&channels);
        for channel in channels {
            match &channel {
                Channel::Status => self.data.status.listen(&self.data, &self.outbox),
                Channel::Own(_) => {}
                other => {
                    if let Some(market) = market_of(other).and_then(|of| self.data.market(of)) {
                        market.lock().listen(other, &self.outbox);
                    }
                }
            }
            self.channels.insert(channel);
        }
        if let (false, Some(signed_in)) = (own.is_empty(), &self.signed_in) {
            let account = signed_in.principal.account;
            self.data.accounts.listen(self.data.live(), account, own, &self.outbox);
        }
    }

    fn unsubscribe(&mut self, id: Option<u64>, names: &[String]) {
        let Some(channels) = self.channels(id, names) else { return };
        for channel in &channels {
            self.close(channel);
        }
        self.accept(id, "unsubscribe", channels.iter().map(Channel::name).collect());
    }

    async fn resume(
        &mut self,
        id: Option<u64>,
        number: u64,
        names: Option<Vec<String>>,
        incarnation: Option<String>,
    ) {
        let all = || Own::ALL.iter().map(|own| own.name().to_owned()).collect();
        let names = names.unwrap_or_else(all);
        let Some(channels) = self.channels(id, &names) else { return };
        let own = own_of(&channels);
        let Some(signed_in) = &self.signed_in else {
            let message = "show an access token first".to_owned();
            return self.refuse(id, "unauthenticated", message, None);
        };
        if own.iter().count() != channels.len() {
            let message = "only an account's own channels can be resumed".to_owned();
            return self.refuse(id, "channel_unknown", message, None);
        }
        self.accept(id, "resume", channels.iter().map(Channel::name).collect());
        let account = signed_in.principal.account;
        let live = self.data.live();
        let same = incarnation.is_none_or(|known| known == format!("{:x}", live.incarnation()));
        let resumed = same && self.data.accounts.resume(live, account, own, number, &self.outbox);
        if !resumed {
            self.send(&Message::Resync { account_sequence: number });
            let (until, sequence) = self.data.accounts.listen(live, account, own, &self.outbox);
            // A number of another journal, or one that was never given, says nothing about what was missed.
            if same && number < until && own.has(Own::Fills) {
                let missed = (number, until);
                let text = missed::fills(&self.app, account, missed, sequence).await;
                self.outbox.send(text);
            }
        }
        self.channels.extend(channels);
    }

    fn close(&mut self, channel: &Channel) {
        if !self.channels.remove(channel) {
            return;
        }
        match channel {
            Channel::Status => self.data.status.unlisten(&self.outbox),
            Channel::Own(own) => {
                if let Some(signed_in) = &self.signed_in {
                    let account = signed_in.principal.account;
                    let own = [*own].into_iter().collect();
                    self.data.accounts.unlisten(account, own, &self.outbox);
                }
            }
            other => {
                if let Some(market) = market_of(other).and_then(|of| self.data.market(of)) {
                    market.lock().unlisten(other, &self.outbox);
                }
            }
        }
    }

    fn close_own(&mut self) {
        Own::ALL.into_iter().for_each(|own| self.close(&Channel::Own(own)));
    }

    fn leave(&mut self) {
        for channel in self.channels.clone() {
            self.close(&channel);
        }
    }
}

impl Allowance {
    fn take(&mut self) -> bool {
        let millis = u64::try_from(self.refilled_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let more = millis.saturating_mul(u64::from(FRAMES_PER_SECOND_MAX)) / 1_000;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(FRAMES_MAX);
            self.refilled_at = Instant::now();
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// Returns when the server is about to stop.
async fn told(draining: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    let _ = draining.wait_for(|draining| *draining).await;
}

fn own_of(channels: &[Channel]) -> OwnSet {
    let own = |channel: &Channel| match channel {
        Channel::Own(own) => Some(*own),
        _ => None,
    };
    channels.iter().filter_map(own).collect()
}

fn market_of(channel: &Channel) -> Option<&str> {
    match channel {
        Channel::Book(market) | Channel::Trades(market) | Channel::Ticker(market) => Some(market),
        Channel::Candles(market, _) => Some(market),
        Channel::Status | Channel::Own(_) => None,
    }
}

/// Tells whether the protocol's own limit on a message was passed: its error has no type here, only words.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}
