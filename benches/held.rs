//! Callers who wait for their turn: how late they are woken, and what each of them takes. `cargo bench -- held`.
//!
//! The first is measured in process, at the wake, on as many threads as there are cores, at a limit that lets 200 calls go
//! at a time. The second is the resident memory of a gateway's own process: 10,000 connections that are idle after a
//! call was refused on each, and then the same with a call on each that waits.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::id::{ApplicationId, TenantId};
use tollgate::limit::{Hold, Limiter};
use tollgate::principal::{Scope, Subject};
use tollgate::snapshot::Snapshot;
use tollgate::source::SourceFile;
use tollgate::time::Clock;

use crate::calls::{Calls, Kind};
use crate::crowd::{WHOLE, connect};
use crate::gateway::Process;
use crate::world::World;

/// Calls that are woken.
const WOKEN: usize = 1_000;

/// Calls that go at a time.
const AT_ONCE: usize = 200;

/// As how many calls a call counts that takes their places.
const FILL: u32 = 200;

/// Connections whose memory is measured: as many as wait at once by default.
const HELD: u16 = 10_000;

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "held") {
        return;
    }
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    wakes();
    memory();
}

fn world(windows: &str, clock: &Clock) -> World {
    let mut world = World::new(clock);
    let limit = format!(
        "[[limit]]\nname = \"waiting\"\noperations = [\"collect\", \"fill\"]\nper = []\nwindows = [\"{windows}\"]\n\
         cost = {{ fill = {FILL} }}\nwhen_full = {{ wait = \"60s\", queue = 10000 }}\n"
    );
    let operations = world.files.get("operations.toml").unwrap().text().to_owned();
    let collect = operations.split("[[operation]]").nth(1).unwrap();
    let fill = collect.replace("\"collect\"", "\"fill\"").replace("collectInvestigationPackage", "fill");
    world
        .files
        .insert(SourceFile::new("operations.toml", format!("[[operation]]{collect}[[operation]]{fill}")));
    world.files.insert(SourceFile::new("limits.toml", &limit));
    world
}

fn wakes() {
    let clock = Clock::System;
    let world = world(&format!("{AT_ONCE} per second"), &clock);
    let snapshot = Arc::new(Snapshot::compile(&world.files, None, clock.wall()).unwrap());
    let limiter = Arc::new(Limiter::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut holds: Vec<Hold> = runtime.block_on(async {
        let calls: Vec<_> =
            (0..AT_ONCE + WOKEN).map(|_| tokio::spawn(one(limiter.clone(), snapshot.clone()))).collect();
        let mut holds = Vec::new();
        for call in calls {
            holds.extend(call.await.unwrap());
        }
        holds
    });
    assert_eq!(holds.len(), WOKEN, "each but the first {AT_ONCE} waits");

    let mut late: Vec<_> = holds.iter().map(|hold| hold.released.since(hold.until)).collect();
    late.sort();
    let at = |part: usize| late[(late.len() - 1) * part / 1_000].as_secs_f64() * 1e3;
    holds.sort_by_key(|hold| hold.until);
    let most = holds.chunk_by(|one, other| one.until == other.until).map(<[_]>::len).max().unwrap();
    // Whoever came first has the earlier turn, and is woken before any whose turn is a millisecond later.
    let mut by_wake = holds.clone();
    by_wake.sort_by_key(|hold| hold.released);
    let overtaken = by_wake.windows(2).filter(|pair| pair[0].until > pair[1].until).count();
    eprintln!(
        "held: {WOKEN} callers woken after their exact times: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms; {most} due in one millisecond, {overtaken} woken before one of an earlier millisecond",
        at(500),
        at(990),
        at(1_000)
    );
}

async fn one(limiter: Arc<Limiter>, snapshot: Arc<Snapshot>) -> Option<Hold> {
    let subject =
        Subject { tenant: TenantId::from_u128(1), application: ApplicationId::from_u128(2), user: None };
    let (operation, scope) = ("collect".parse().unwrap(), Scope::default());
    let charges = snapshot.quotas.charges(&subject, &operation, &scope);
    let mut admission = limiter.acquire(&charges, &Clock::System).await.unwrap();
    admission.forwarded();
    admission.hold()
}

fn memory() {
    let clock = Clock::System;
    let world = world(&format!("{HELD} per minute"), &clock);
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.write(policies.path());
    let call = Calls::new(Kind::Admitted, &world).each()[0].clone();
    let fill =
        String::from_utf8(call.clone()).unwrap().replace("collectInvestigationPackage", "fill").into_bytes();
    let upstream = Process::role("upstream");
    let patient = ["--max-connections", "20000", "--idle-timeout", "1h", "--header-timeout", "1h"];
    let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, &patient);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connections: Vec<TcpStream> = Vec::new();
        for number in 0..HELD {
            connections.push(connect(gateway.address, number, WHOLE).await);
        }
        let idle = settled(&gateway).await;
        // The next place is free after a minute, until when all is measured.
        for _ in 0..u32::from(HELD) / FILL {
            drop(connect(gateway.address, HELD, &fill).await);
        }
        for stream in &mut connections {
            stream.write_all(&call).await.unwrap();
        }
        let held = settled(&gateway).await;
        for stream in &connections {
            let mut answer = [0; 2_048];
            let read = stream.try_read(&mut answer);
            assert!(read.is_err(), "one does not wait: {}", answer.escape_ascii());
        }
        let each = held.saturating_sub(idle) * 1_024 / u64::from(HELD);
        eprintln!(
            "held: {HELD} idle connections {idle} KiB resident, the same with a held call each {held} KiB: {each} bytes for a held call"
        );
        let last = connections.first_mut().unwrap();
        assert!(last.read(&mut [0; 2_048]).await.unwrap() > 0, "the first has its turn");
    });
}

/// What a process takes once that has not grown for two seconds, in KiB.
async fn settled(process: &Process) -> u64 {
    let mut before = 0;
    loop {
        let now = process.resident();
        if now == before {
            return now;
        }
        before = now;
        Clock::System.sleep(Duration::from_secs(2)).await;
    }
}
