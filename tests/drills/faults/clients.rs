//! Clients that use up what a server has: connections, time, memory; and ones that measure it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Http, limit, wait_for};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::drill::Run;
use crate::process::{PATIENCE, Role};
use crate::user::{Client, ask};

/// Connections that say nothing, in a bounded run and in a long one.
const IDLE: (usize, usize) = (2_000, 10_000);
/// Files of this program beside them.
const FILES_RESERVED: u64 = 500;
/// Connections more than there are places.
const BEYOND: usize = 50;
/// Memory that one connection may cost a server. An idle one has its buffers and its task.
const CONNECTION_BYTES_MAX: u64 = 64 * 1_024;
/// Memory that may come and go meanwhile for other reasons.
const OTHER_BYTES_MAX: u64 = 128 * 1_024 * 1_024;
/// Beyond this another user would be shut out; what is measured is in the report.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Requests of the other user that are measured.
const PROBES: usize = 200;
/// Clients that send byte by byte.
const SLOW: usize = 100;
/// Bodies of 10 MB at once.
const LARGE: usize = 10;
const LARGE_BYTES: usize = 10 * 1_024 * 1_024;
/// Logins of each kind.
const LOGINS: usize = 25;

/// Starts one more server, with settings, for this drill alone. Returns its place among the servers.
fn server(run: &mut Run<'_>, settings: &[(&str, &str)]) -> usize {
    let mut server = run.stand.process(Role::Server);
    settings.iter().for_each(|(name, value)| server.set(name, value));
    server.spawn();
    run.stand.servers.push(server);
    run.stand.wait_ready();
    run.stand.servers.len() - 1
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1_024
}

/// Another user, who reads and trades at one server.
struct Other {
    client: Client,
    tag: u64,
    sent: u64,
}

impl Other {
    fn new(run: &mut Run<'_>, address: SocketAddr) -> Self {
        let client = Client::new(&run.stand.own_users[2], &Arc::new(vec![address]));
        Self { client, tag: run.random.next(), sent: 0 }
    }

    /// Sends requests one after the other; every one is answered. Returns the median and the 99th percentile.
    fn probe(&mut self) -> (Duration, Duration) {
        let mut times: Vec<Duration> = (0..PROBES)
            .map(|number| {
                self.sent += 1;
                let key = format!("{:x}-{}", self.tag, self.sent);
                let began = Instant::now();
                let answer = if number.is_multiple_of(2) {
                    ask(&mut self.client, "GET", "/api/v1/wallet/balances", &key, None)
                } else {
                    let order = limit("BTC/USD", "buy", "0.01", "60000.00");
                    ask(&mut self.client, "POST", "/api/v1/orders", &key, Some(&order))
                };
                assert!(matches!(answer.status, 200 | 201), "{answer:?}");
                began.elapsed()
            })
            .collect();
        let key = format!("{:x}-{}-end", self.tag, self.sent);
        let answer = ask(&mut self.client, "DELETE", "/api/v1/orders", &key, None);
        assert_eq!(answer.status, 200, "{answer:?}");
        times.sort_unstable();
        (times[PROBES / 2], times[PROBES * 99 / 100])
    }
}

/// Notes what another user has seen, and refuses what would be a door held shut.
fn compare(
    run: &mut Run<'_>,
    what: &str,
    before: (Duration, Duration),
    during: (Duration, Duration),
) {
    let text = |(median, p99): (Duration, Duration)| format!("p50 {median:.1?}, p99 {p99:.1?}");
    run.note(format!("another user, before: {}; {what}: {}", text(before), text(during)));
    assert!(during.1 < ANSWER_MAX, "{what}, another user waits {:?}", during.1);
}

/// Has as many files open as the system lets this program have. Returns how many of them may be connections.
fn connections_max() -> usize {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // Where this is refused, what there was is what there is.
    let _ = setrlimit(Resource::Nofile, files);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX)
}

/// What has become of a connection that is not written to any more.
fn is_over(mut stream: &TcpStream) -> bool {
    let mut bytes = [0; 1_024];
    match stream.read(&mut bytes) {
        Ok(0) => true,
        // An answer, and then the end.
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

pub(super) fn idle(run: &mut Run<'_>) {
    let wanted = run.or_long(IDLE.0, IDLE.1);
    let count = wanted.min(connections_max().saturating_sub(BEYOND));
    // A place for each, and some for everybody else.
    let places = count + 20;
    let at = server(run, &[("KX_CONNECTIONS_MAX", &places.to_string())]);
    let (address, pid) = (run.stand.servers[at].address(), run.stand.servers[at].pid());
    let mut other = Other::new(run, address);
    let before = other.probe();
    let bytes = resident_bytes(pid);

    let mut streams: Vec<TcpStream> = (0..count).map(|number| idler(address, number)).collect();
    run.faults += 1;
    // One too many is told so.
    let more: Vec<TcpStream> = (0..BEYOND).filter_map(|_| beyond(address)).collect();
    let is_told = |mut stream: &TcpStream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503"
    };
    let told = more.iter().filter(|stream| is_told(stream)).count();
    drop(more);
    let late = streams.iter().filter(|stream| is_over(stream)).count();
    run.note(format!("{BEYOND} connections more than there are places for: {told} were told 503"));
    // A machine so slow that the first were closed by then has had room for them.
    assert!(told > 0 || late > 0, "nobody beyond the places is told");

    // What is closed comes again, so that there are as many all the time.
    let measured = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&measured);
    let again = std::thread::spawn(move || {
        let mut reopened = 0;
        while !stop.load(Ordering::Relaxed) {
            for (number, stream) in streams.iter_mut().enumerate() {
                if is_over(stream) {
                    *stream = idler(address, number);
                    reopened += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        (streams, reopened)
    });
    let during = other.probe();
    let grown = resident_bytes(pid).saturating_sub(bytes);
    measured.store(true, Ordering::Relaxed);
    let (streams, reopened) = again.join().expect("no client panics");
    run.note(format!(
        "{count} idle connections, {reopened} of them opened anew when they were closed: {} KiB of memory each",
        grown / 1_024 / count as u64
    ));
    let allowed = CONNECTION_BYTES_MAX * count as u64 + OTHER_BYTES_MAX;
    assert!(grown < allowed, "{count} connections cost {grown} bytes");
    compare(run, "with them", before, during);

    // What says nothing is closed in its time.
    wait_for("idle connections to be closed", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        streams.iter().all(is_over).then_some(())
    });
    drop(streams);
    let after = other.probe();
    compare(run, "after them", before, after);
    assert_eq!(run.stand.servers[at].status("/ready"), Some(200), "the server is as before");
}

/// Opens a connection that says nothing, or half of a head.
fn idler(address: SocketAddr, number: usize) -> TcpStream {
    wait_for("a connection", PATIENCE, || {
        let mut stream = TcpStream::connect(address).ok()?;
        let part: &[u8] =
            if number.is_multiple_of(2) { b"" } else { b"GET /health HTTP/1.1\r\nhost" };
        stream.write_all(part).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    })
}

/// Opens a connection that waits a moment for an answer; `None` where the system has no more of them.
fn beyond(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(20))).ok()?;
    Some(stream)
}

pub(super) fn slowloris(run: &mut Run<'_>) {
    // A limit of attempts would refuse most of them by their heads.
    let at = server(run, &[("KX_RATE_LIMITS", "none")]);
    let (address, pid) = (run.stand.servers[at].address(), run.stand.servers[at].pid());
    let mut other = Other::new(run, address);
    let before = other.probe();
    let bytes = resident_bytes(pid);

    // Bytes that never end: heads, and bodies of a request whose head is whole.
    let began = Instant::now();
    let slow = std::thread::spawn(move || {
        let mut streams: Vec<TcpStream> =
            (0..SLOW).map(|number| slow_client(address, number)).collect();
        wait_for("slow clients to be closed", PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            // One more byte each; a server that has closed refuses it.
            streams.retain_mut(|stream| stream.write_all(b"x").is_ok() && !is_over(stream));
            streams.is_empty().then_some(began.elapsed())
        })
    });
    let large: Vec<_> =
        (0..LARGE).map(|_| std::thread::spawn(move || large_body(address))).collect();
    run.faults += 2;
    let during = other.probe();
    let grown = resident_bytes(pid).saturating_sub(bytes);
    for one in large {
        let status = one.join().expect("no client panics");
        assert!(matches!(status, Some(413) | None), "a body of 10 MB is answered {status:?}");
    }
    // With none of the bytes of a body but its first, the answer is always read.
    assert_eq!(large_head(address), 413, "and needs not be sent to be refused");
    let took = slow.join().expect("no client panics");
    run.note(format!("the last of {SLOW} slow clients was closed after {took:.1?}"));
    run.note(format!("{LARGE} bodies of 10 MB at once: {} KiB of memory in all", grown / 1_024));
    assert!(grown < OTHER_BYTES_MAX, "bodies are kept: {grown} bytes");
    compare(run, "with them", before, during);
    assert_eq!(run.stand.servers[at].status("/ready"), Some(200), "the server is as before");
}

const LOGIN: &str =
    "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

fn slow_client(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let begin = if number.is_multiple_of(2) {
        "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ".to_owned()
    } else {
        format!("{LOGIN}content-length: 60000\r\n\r\n{{\"email\": \"")
    };
    stream.write_all(begin.as_bytes()).expect("it reads");
    stream.set_nonblocking(true).expect("it is ours");
    stream
}

/// Sends a body of 10 MB, whether the server reads it or not; `None` where it cut the connection before it was asked.
fn large_body(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{LOGIN}content-length: {LARGE_BYTES}\r\n\r\n").as_bytes()).ok()?;
    let piece = [b'x'; 64 * 1_024];
    for _ in 0..LARGE_BYTES / piece.len() {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    status(&mut stream)
}

/// Sends a head that announces 10 MB and the first part of them, and waits for the answer.
fn large_head(address: SocketAddr) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is ours");
    let head = format!("{LOGIN}content-length: {LARGE_BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    status(&mut stream).expect("it answers")
}

fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.rsplit(' ').next()?.parse().ok()
}

/// Whoever measures cannot tell whether there is a user: the difference of the medians is lost in the noise.
pub(super) fn login_time(run: &mut Run<'_>) {
    let at = server(run, &[("KX_RATE_LIMITS", "none")]);
    let address = run.stand.servers[at].address();
    let tag = run.random.next();
    let email = |kind: &str, number: usize| format!("{kind}{number}-{tag:x}@example.com");
    let mut http = Http::new(address).with_patience(PATIENCE);
    // Passwords that were hashed as the server does it: the stand's own users have cheap ones.
    for number in 0..LOGINS {
        let body = json!({"email": email("known", number), "password": "correct horse battery"});
        http.post("/api/v1/auth/register", &body).expect("it answers").expect(201);
    }
    let mut login = |email: String| {
        let body = json!({"email": email, "password": "a wrong password"});
        let began = Instant::now();
        let answer = http.post("/api/v1/auth/login", &body).expect("it answers");
        let took = began.elapsed();
        assert_eq!(answer.expect(401)["code"], "credentials_invalid");
        took
    };
    let _ = login(email("warm", 0));
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..LOGINS {
        // By turns, so that whatever else the machine does falls on both.
        known.push(login(email("known", number)));
        unknown.push(login(email("unknown", number)));
    }
    let deviation = rank_deviation(&known, &unknown);
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (of_known, of_unknown) = (median(&mut known), median(&mut unknown));
    run.note(format!(
        "{LOGINS} wrong logins each: median {of_known:.2?} where there is a user, {of_unknown:.2?} where there is none; \
         rank sum {deviation:.1} standard deviations off"
    ));
    // Both must say so: ranks alone would see a microsecond, medians alone a busy machine.
    let difference = of_known.abs_diff(of_unknown);
    assert!(
        deviation.abs() < 5.0 || difference * 4 < of_known.max(of_unknown),
        "a login tells whether there is a user: {of_known:?} and {of_unknown:?}"
    );
}

/// Returns by how many standard deviations the rank sum of the first is off what it is where both are alike (Mann and Whitney).
#[expect(clippy::cast_precision_loss, reason = "a few dozen measurements")]
fn rank_deviation(a: &[Duration], b: &[Duration]) -> f64 {
    let above = a.iter().map(|a| b.iter().filter(|b| *b < a).count()).sum::<usize>() as f64;
    let (n, m) = (a.len() as f64, b.len() as f64);
    (above - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}
