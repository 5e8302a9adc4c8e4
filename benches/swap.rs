//! What a policy edit costs those who call meanwhile, at a million devices and 10,000 device groups: the times of calls
//! that come at a fifth of what the gateway can do, while nothing is edited, while limits are, while device groups are,
//! while the inventory is written anew, and after that; and how long after each edit the first call was decided by it.
//! The gateway has one core, the load and the upstream another. `cargo bench -- swap`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Deserialize;
use tollgate::time::{Clock, Wall};

use crate::calls::{Calls, Kind};
use crate::gateway::Process;
use crate::inventory;
use crate::world::{DEVICES, World};

/// Devices beside those that are called for.
const INVENTORY: u32 = 1_000_000;

/// Calls that measure what the gateway can do.
const CALLS: u64 = 60_000;

/// How long each part of the table is measured.
const PART: Duration = Duration::from_secs(20);

/// What happens meanwhile: which file is replaced, and how often in a part.
struct Part {
    what: &'static str,
    file: &'static str,
    edits: u32,
}

const PARTS: [Part; 5] = [
    Part { what: "idle", file: "", edits: 0 },
    Part { what: "limits edited", file: "limits.toml", edits: 5 },
    Part { what: "device groups edited", file: "device-groups.toml", edits: 5 },
    Part { what: "inventory written anew", file: "devices.csv", edits: 3 },
    Part { what: "after", file: "", edits: 0 },
];

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "swap") {
        return;
    }
    let devices = std::env::var("TOLLGATE_SWAP_DEVICES").map_or(INVENTORY, |number| number.parse().unwrap());
    let clock = Clock::System;
    let world = World::new(&clock);
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let beside = tempfile::tempdir().unwrap();
    write_set(&world, devices, policies.path());
    let calls = Calls::new(Kind::Admitted, &world);
    let upstream = Process::role("upstream");
    let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, &[]);
    // Whoever calls must not wait for a core that a policy is compiled on: the gateway has one for all its threads.
    for (process, core) in [(gateway.id(), 0), (upstream.id(), 1), (std::process::id(), 1)] {
        pin(process, core);
    }
    let mut audit = Audit { path: audit.path().join("audit.jsonl"), read: 0, known: HashSet::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    runtime.block_on(calls.clone().load(gateway.address, CALLS / 10));
    let start = clock.steady();
    runtime.block_on(calls.clone().load(gateway.address, CALLS));
    let capacity = CALLS as f64 / clock.steady().since(start).as_secs_f64();
    let rate = capacity / 5.0;
    audit.new_versions();
    println!("swap: {devices} devices, at most {capacity:.0} calls a second, now {rate:.0}");
    for Part { what, file, edits } in PARTS {
        // Whoever writes a file of a hundred megabytes takes a core from those that are measured: that is done before.
        let written: Vec<_> =
            (0..edits).map(|turn| write_anew(policies.path(), beside.path(), file, turn)).collect();
        let editor = std::thread::spawn({
            let (path, clock) = (policies.path().join(file), clock.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut renamed = Vec::new();
                for new in written {
                    renamed.push(clock.wall());
                    fs::rename(new, &path).unwrap();
                    runtime.block_on(clock.sleep(PART / edits));
                }
                renamed
            }
        });
        let times = runtime.block_on(calls.clone().at_rate(gateway.address, rate, PART));
        let renamed = editor.join().unwrap();
        let at = |part: usize| times[(times.len() - 1) * part / 10_000].as_secs_f64() * 1e6;
        println!(
            "swap: {what}: {} calls, p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, longest {:.0} µs, resident {} KiB",
            times.len(),
            at(5_000),
            at(9_900),
            at(9_990),
            at(10_000),
            gateway.resident()
        );
        let versions = audit.new_versions();
        let in_force = renamed.iter().map(|renamed| match versions.iter().find(|first| *first >= renamed) {
            Some(first) => format!("{} ms", first.since(*renamed).as_millis()),
            None => "never".to_owned(),
        });
        let in_force: Vec<_> = in_force.collect();
        if !in_force.is_empty() {
            println!(
                "swap: {what}: in force {} after the rename, 200 ms of which are the debounce",
                in_force.join(", ")
            );
        }
    }
}

/// Leaves a process's threads one core.
fn pin(process: u32, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let thread = thread.unwrap().file_name().into_string().unwrap().parse().unwrap();
        sched_setaffinity(Pid::from_raw(thread), &cores).unwrap();
    }
}

/// What the gateway writes of its decisions, as far as it has been read.
struct Audit {
    path: PathBuf,
    /// In bytes.
    read: u64,
    /// The versions that decisions were made by.
    known: HashSet<String>,
}

/// A line of it: to the millisecond, when the decision was made, and by which version.
#[derive(Deserialize)]
struct Line {
    time: String,
    event: String,
    policy_version: String,
}

impl Audit {
    /// When the first call was decided by each version that decided none before what was read last, in the order of time.
    fn new_versions(&mut self) -> Vec<Wall> {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let (mut reader, mut line, mut first) = (BufReader::new(file), String::new(), Vec::new());
        // The line that is being written has no end yet.
        while reader.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            self.read += line.len() as u64;
            // The line of the load itself is written once the set before is freed.
            let decided = serde_json::from_str::<Line>(&line).ok().filter(|line| line.event == "admitted");
            if let Some(Line { time, policy_version, .. }) = decided
                && self.known.insert(policy_version)
            {
                first.push(time.parse::<Wall>().unwrap());
            }
            line.clear();
        }
        first.sort();
        first
    }
}

/// The devices that are called for are in no group, and each of the others is asked of 10,000 rules.
fn write_set(world: &World, devices: u32, folder: &Path) {
    world.write(folder);
    let mut inventory = inventory::csv(devices);
    // The inventory's first device has the id of the first one that is called for.
    for number in 1..DEVICES {
        inventory.push_str(&format!("{number:040x},pc.bench.example,bench.example,,Windows11,\n"));
    }
    fs::write(folder.join("devices.csv"), inventory).unwrap();
    fs::write(folder.join("device-groups.toml"), inventory::groups()).unwrap();
    let applications = fs::read_to_string(folder.join("applications.toml")).unwrap();
    let groups = r#"["Ungrouped devices (default)", "group-0"]"#;
    let applications = applications.replace(r#"["Workstations", "Servers"]"#, groups);
    fs::write(folder.join("applications.toml"), applications).unwrap();
}

/// Writes a file of the set beside it; what it says is new each time.
fn write_anew(folder: &Path, beside: &Path, name: &str, turn: u32) -> PathBuf {
    let mut text = fs::read_to_string(folder.join(name)).unwrap();
    match name {
        "limits.toml" => text = format!("max_keys = {}\n{text}", 1_000_000 + turn),
        "devices.csv" => text.push_str(&format!("{:040x},,,,,\n", 0xffff_0000_0000_u64 + u64::from(turn))),
        _ => text.push_str(&format!("# {turn}\n")),
    }
    let path = beside.join(format!("{turn}-{name}"));
    fs::write(&path, text).unwrap();
    path
}
