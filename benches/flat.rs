//! Full load for a long time: memory after the first minute and at the end, and how long calls took.
//! `cargo bench -- flat`, for ten minutes or `flat=SECONDS`.

use std::time::Duration;

use tollgate::source::SourceFile;
use tollgate::time::Clock;

use crate::calls::{Calls, Kind};
use crate::gateway::Process;
use crate::world::World;

/// By then every buffer and pool has its size.
const FIRST: Duration = Duration::from_secs(60);

/// In all, unless it is said otherwise.
const WHOLE: Duration = Duration::from_secs(600);

pub(crate) fn bench() {
    let Some(argument) = std::env::args().find(|arg| arg == "flat" || arg.starts_with("flat=")) else {
        return;
    };
    let whole =
        argument.strip_prefix("flat=").map_or(WHOLE, |text| Duration::from_secs(text.parse().unwrap()));
    let mut world = World::new(&Clock::System);
    // A window of an hour holds more times every minute for as long as it is not full.
    let operations = world.files.get("operations.toml").unwrap().text().replace(", \"1000000 per hour\"", "");
    world.files.insert(SourceFile::new("operations.toml", &operations));
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.write(policies.path());
    let upstream = Process::role("upstream");
    // The load does not connect again.
    let more = ["--max-requests-per-connection", "4294967295"];
    let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, &more);
    let calls = Calls::new(Kind::Admitted, &world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let measure = |what: &str, time: Duration| {
        let (calls, cut) = (calls.clone(), audit.path().join("audit.jsonl"));
        let latencies = runtime.block_on(calls.load_for(gateway.address, time));
        // The trail of a whole run would fill a small disk.
        std::fs::remove_file(cut).unwrap();
        let resident = gateway.resident();
        eprintln!(
            "flat: {what}: {:.0}/s, p50 {} µs, p99 {} µs, p99.9 {} µs, resident {resident} KiB",
            latencies.calls() as f64 / time.as_secs_f64(),
            latencies.at(500),
            latencies.at(990),
            latencies.at(999)
        );
        resident
    };
    let first = measure("the first minute", FIRST.min(whole / 2));
    let mut last = first;
    let mut left = whole.saturating_sub(FIRST.min(whole / 2));
    while !left.is_zero() {
        let part = FIRST.min(left);
        last = measure("the next", part);
        left -= part;
    }
    eprintln!("flat: resident {:+.1} % since the first minute", (last as f64 / first as f64 - 1.0) * 100.0);
}
