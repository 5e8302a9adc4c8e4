//! What a crowd costs one caller: 10,000 connections that are idle after a call, then 1,000 more that send a byte of a
//! header a second, and between them one caller of whose calls the time is taken. `cargo bench -- crowd`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tollgate::time::Clock;

use crate::calls::{Calls, Kind};
use crate::gateway::Process;
use crate::world::World;

/// Idle connections.
const IDLE: u16 = 10_000;

/// Connections whose header does not end.
const SLOW: u16 = 1_000;

/// Calls whose times are taken.
const CALLS: usize = 5_000;

/// As many connections come from one address as the gateway allows by default.
const OF_ONE_ADDRESS: u16 = 1_000;

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "crowd") {
        return;
    }
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    let clock = Clock::System;
    let world = World::new(&clock);
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.write(policies.path());
    let call = Arc::new(Calls::new(Kind::Admitted, &world).each()[0].clone());
    let upstream = Process::role("upstream");
    let patient = ["--max-connections", "20000", "--idle-timeout", "1h", "--header-timeout", "1h"];
    let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, &patient);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measure = |what: &str| {
        let (address, call) = (gateway.address, call.clone());
        let times = std::thread::spawn(move || times(address, &call));
        // The crowd goes on meanwhile.
        let times =
            runtime.block_on(async move { tokio::task::spawn_blocking(move || times.join().unwrap()).await });
        let mut times = times.unwrap();
        times.sort();
        let at = |part: usize| times[times.len() * part / 1_000].as_secs_f64() * 1e6;
        let resident = gateway.resident();
        eprintln!(
            "crowd: {what}: p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, resident {resident} KiB",
            at(500),
            at(990),
            at(999)
        );
        resident
    };
    measure("warming up");
    let alone = measure("alone");
    let idle: Vec<_> =
        (0..IDLE).map(|number| runtime.block_on(connect(gateway.address, number, WHOLE))).collect();
    let crowded = measure(&format!("beside {IDLE} idle connections"));
    let each = crowded.saturating_sub(alone) * 1_024 / u64::from(IDLE);
    eprintln!("crowd: {each} bytes for an idle connection");
    for number in 0..SLOW {
        runtime.block_on(async {
            let mut stream = connect(gateway.address, IDLE + number, b"").await;
            stream.write_all(b"GET /api/machines HTTP/1.1\r\nX: ").await.unwrap();
            tokio::spawn(async move {
                while stream.write_all(b"x").await.is_ok() {
                    Clock::System.sleep(Duration::from_secs(1)).await;
                }
            });
        });
    }
    measure(&format!("and {SLOW} slow ones"));
    drop(idle);
}

/// A call that is refused at once, after which the connection is kept.
pub(crate) const WHOLE: &[u8] = b"GET /api/machines HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// A connection from an address of its own share, after this was said and answered.
pub(crate) async fn connect(gateway: SocketAddr, number: u16, said: &[u8]) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from =
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + u32::from(number / OF_ONE_ADDRESS));
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(gateway).await.unwrap();
    if !said.is_empty() {
        stream.write_all(said).await.unwrap();
        let read = stream.read(&mut [0; 2_048]).await.unwrap();
        assert!(read > 0, "the connection was closed");
    }
    stream
}

/// How long each of some calls takes, one after the other.
pub(crate) fn times(gateway: SocketAddr, call: &[u8]) -> Vec<Duration> {
    let clock = Clock::System;
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4_096];
    let mut one = || {
        let start = clock.steady();
        stream.write_all(call).unwrap();
        let read = stream.read(&mut buffer).unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 201"), "{}", buffer[..read].escape_ascii());
        clock.steady().since(start)
    };
    (0..CALLS).map(|_| one()).collect()
}
