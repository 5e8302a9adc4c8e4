//! How late callers are woken who wait for their turn: measured in process, at the wake, on as many threads as there are
//! cores, at a limit that lets 200 calls go at a time. `cargo bench -- held`.

use std::sync::Arc;

use tollgate::id::{ApplicationId, TenantId};
use tollgate::limit::{Hold, Limiter};
use tollgate::principal::{Scope, Subject};
use tollgate::snapshot::Snapshot;
use tollgate::source::SourceFile;
use tollgate::time::Clock;

use crate::world::World;

/// Calls that are woken.
const WOKEN: usize = 1_000;

/// Calls that go at a time.
const AT_ONCE: usize = 200;

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "held") {
        return;
    }
    wakes();
}

fn world(windows: &str, clock: &Clock) -> World {
    let mut world = World::new(clock);
    let limit = format!(
        "[[limit]]\nname = \"waiting\"\noperations = [\"collect\"]\nper = []\nwindows = [\"{windows}\"]\n\
         when_full = {{ wait = \"60s\", queue = 10000 }}\n"
    );
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
