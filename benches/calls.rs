//! What the benchmarks call with, and how.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::time::{Clock, Steady};

use crate::world::{World, device};

/// Connections that call at once.
pub(crate) const CONNECTIONS: u64 = 64;

/// A call of each connection, and how its next one differs from it.
pub(crate) struct Calls {
    each: Vec<Vec<u8>>,
    next: Next,
    clock: Clock,
}

/// How a connection's next call differs from the one before.
#[derive(Clone, Copy)]
enum Next {
    /// Not at all.
    Same,
    /// By a signature that was never seen, and is wrong.
    Signature,
}

/// The kinds of call, by what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Admitted,
    NoToken,
    /// The same wrong signature each time.
    BadToken,
    /// A wrong signature that was never seen.
    NewBadToken,
    /// The token lacks the permission.
    Forbidden,
    /// The window is full from the connection's second call on.
    OverLimit,
}

/// How long calls took, each counted at the first bound that is not below it.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    /// By microseconds, up to a tenth of a second; the last is of all that took longer.
    counts: Vec<u64>,
}

impl Kind {
    pub(crate) const REFUSED: [Self; 5] =
        [Self::NoToken, Self::BadToken, Self::NewBadToken, Self::Forbidden, Self::OverLimit];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::NoToken => "no token",
            Self::BadToken => "bad token, seen before",
            Self::NewBadToken => "bad signature, never seen",
            Self::Forbidden => "403",
            Self::OverLimit => "429",
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Forbidden => "runliveresponse",
            Self::OverLimit => "offboard",
            _ => "collectInvestigationPackage",
        }
    }
}

impl Calls {
    pub(crate) fn new(kind: Kind, world: &World) -> Arc<Self> {
        let each = world.tokens.iter().zip(0..).map(|(token, number)| request(kind, token, number)).collect();
        let next = if kind == Kind::NewBadToken { Next::Signature } else { Next::Same };
        Arc::new(Self { each, next, clock: Clock::System })
    }

    /// One call of each connection, as bytes.
    pub(crate) fn each(&self) -> &[Vec<u8>] {
        &self.each
    }

    /// Sends `count` calls over 64 connections and reads their answers.
    pub(crate) async fn load(self: Arc<Self>, address: SocketAddr, count: u64) {
        let local = tokio::task::LocalSet::new();
        for connection in 0..CONNECTIONS {
            let share = count / CONNECTIONS + u64::from(connection < count % CONNECTIONS);
            local.spawn_local(self.clone().call(address, connection, move |done, _| done < share));
        }
        local.await;
    }

    /// Calls over 64 connections for so long, and says how long each call took.
    pub(crate) async fn load_for(self: Arc<Self>, address: SocketAddr, time: Duration) -> Latencies {
        let end = self.clock.steady() + time;
        let calling: Vec<_> = (0..CONNECTIONS)
            .map(|connection| self.clone().call(address, connection, move |_, now| now < end))
            .collect();
        let mut latencies = Latencies::default();
        for part in futures_util::future::join_all(calling).await {
            latencies.add(&part);
        }
        latencies
    }

    /// Calls so many times a second, over 64 connections and for so long, and says how long each call took, the
    /// shortest first. One that comes due while its connection waits for the answer before is counted from when it was
    /// due: who waits for a gateway that stands still is not left out.
    pub(crate) async fn at_rate(
        self: Arc<Self>,
        gateway: SocketAddr,
        rate: f64,
        time: Duration,
    ) -> Vec<Duration> {
        let between = Duration::from_secs_f64(self.each.len() as f64 / rate);
        let start = self.clock.steady();
        let calling = (0..self.each.len()).map(|connection| {
            let first = start + between.mul_f64(connection as f64 / self.each.len() as f64);
            self.clone().call_when_due(gateway, connection, first..start + time, between)
        });
        let local = tokio::task::LocalSet::new();
        let each = futures_util::future::join_all(calling.map(|calling| local.spawn_local(calling)));
        let mut times: Vec<_> = local.run_until(each).await.into_iter().flat_map(Result::unwrap).collect();
        times.sort();
        times
    }

    async fn call_when_due(
        self: Arc<Self>,
        gateway: SocketAddr,
        connection: usize,
        Range { start: mut due, end }: Range<Steady>,
        between: Duration,
    ) -> Vec<Duration> {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut buffer, mut ready, mut times) = (vec![0; 4_096], due, Vec::new());
        while due < end {
            self.clock.sleep_until(due).await;
            let from = if ready > due { due } else { self.clock.steady() };
            stream.write_all(&self.each[connection]).await.unwrap();
            answer(&mut stream, &mut buffer).await;
            ready = self.clock.steady();
            times.push(ready.since(from));
            due = due + between;
        }
        times
    }

    async fn call(
        self: Arc<Self>,
        address: SocketAddr,
        connection: u64,
        goes_on: impl Fn(u64, Steady) -> bool,
    ) -> Latencies {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut call = self.each[usize::try_from(connection).unwrap()].clone();
        let mut latencies = Latencies::default();
        let (mut buffer, mut done) = (vec![0; 4_096], 0);
        let mut now = self.clock.steady();
        while goes_on(done, now) {
            if let Next::Signature = self.next {
                sign_anew(&mut call, connection + CONNECTIONS * now.as_nanos());
            }
            stream.write_all(&call).await.unwrap();
            answer(&mut stream, &mut buffer).await;
            let before = std::mem::replace(&mut now, self.clock.steady());
            latencies.enter(now.since(before));
            done += 1;
        }
        latencies
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; 100_001] }
    }
}

impl Latencies {
    fn enter(&mut self, time: Duration) {
        let at = usize::try_from(time.as_micros()).unwrap().min(self.counts.len() - 1);
        self.counts[at] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    /// How many there are.
    pub(crate) fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What so many in a thousand did not exceed, in microseconds.
    pub(crate) fn at(&self, thousandths: u64) -> usize {
        let mut left = (self.calls() * thousandths).div_ceil(1_000);
        let place = self.counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        place.unwrap_or(self.counts.len())
    }
}

fn request(kind: Kind, token: &str, number: u64) -> Vec<u8> {
    let body = r#"{"Comment":"Collect forensics due to alert 1234"}"#;
    let authorization = match kind {
        Kind::NoToken => String::new(),
        _ => format!("Authorization: Bearer {token}\r\n"),
    };
    let mut call = format!(
        "POST /api/machines/{}/{} HTTP/1.1\r\nHost: gateway.example\r\nUser-Agent: bench\r\n\
         Accept: application/json\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        device(number),
        kind.operation(),
        body.len()
    )
    .into_bytes();
    if let Kind::BadToken | Kind::NewBadToken = kind {
        sign_anew(&mut call, number);
    }
    call
}

/// Writes a number into the midst of the token's signature, 16 letters that are base64.
fn sign_anew(call: &mut [u8], number: u64) {
    let end = find(call, b"\r\nContent-Type").unwrap();
    call[end - 116..end - 100].copy_from_slice(format!("{number:016x}").as_bytes());
}

/// Reads one answer, whose body ends with its JSON.
pub(crate) async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
        let Some(end) = find(&buffer[..length], b"\r\n\r\n") else { continue };
        let known = ["201", "401", "403", "429"].iter().any(|status| buffer[9..12] == *status.as_bytes());
        assert!(known, "{}", String::from_utf8_lossy(&buffer[..length]));
        if length > end + 4 && buffer[..length].ends_with(b"}") {
            return;
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
