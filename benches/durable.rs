//! What it costs a caller that its call is written down before it is forwarded. `cargo bench -- durable`; the disk is the
//! one that has the system's temporary folder.

use std::time::Duration;

use tollgate::source::SourceFile;
use tollgate::time::Clock;

use crate::calls::{Calls, Kind};
use crate::crowd::times;
use crate::gateway::Process;
use crate::world::World;

/// How long 64 connections call as fast as they are answered.
const FULL: Duration = Duration::from_secs(5);

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "durable") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (what, limits, keeps) in [
        ("no state folder", "", false),
        ("a state folder", "", true),
        ("durable = true", "durable = true\n", true),
        ("durable = \"fsync\"", "durable = \"fsync\"\n", true),
    ] {
        let mut world = World::new(&Clock::System);
        world.files.insert(SourceFile::new("limits.toml", limits));
        let [policies, audit, state] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        world.write(policies.path());
        let folder = state.path().display().to_string();
        let more = ["--state", folder.as_str()];
        let upstream = Process::role("upstream");
        let more: &[&str] = if keeps { &more } else { &[] };
        let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, more);
        let calls = Calls::new(Kind::Admitted, &world);
        // Connections to the upstream, tokens and buffers are there after the first.
        let [_, mut alone] = [(); 2].map(|()| times(gateway.address, &calls.each()[0]));
        alone.sort();
        let at = |part: usize| alone[alone.len() * part / 1_000].as_secs_f64() * 1e6;
        let full = runtime.block_on(calls.clone().load_for(gateway.address, FULL));
        eprintln!(
            "durable: {what}: one caller p50 {:.0} µs, p99 {:.0} µs; 64 callers {:.0}/s, p50 {} µs, p99 {} µs",
            at(500),
            at(990),
            full.calls() as f64 / FULL.as_secs_f64(),
            full.at(500),
            full.at(990)
        );
    }
}
