//! What a policy edit costs those who call meanwhile, at a million devices and 10,000 device groups: the times of calls
//! that come at a fifth of what the gateway can do, while nothing is edited, while device groups are, while the
//! inventory is written anew, and after that. `cargo bench -- swap`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tollgate::time::Clock;

use crate::calls::{Calls, Kind, answer};
use crate::gateway::Process;
use crate::inventory;
use crate::world::{DEVICES, World};

/// Devices beside those that are called for.
const INVENTORY: u32 = 1_000_000;

/// Calls that measure what the gateway can do.
const CALLS: u64 = 60_000;

/// How long each part of the table is measured.
const PART: Duration = Duration::from_secs(20);

/// What happens meanwhile, and how often in a part.
struct Part {
    what: &'static str,
    edit: fn(&Path, usize),
    edits: usize,
}

const PARTS: [Part; 4] = [
    Part { what: "idle", edit: |_, _| {}, edits: 0 },
    Part {
        what: "device groups edited",
        edit: |folder, turn| edit(folder, "device-groups.toml", turn),
        edits: 5,
    },
    Part { what: "inventory written anew", edit: |folder, turn| edit(folder, "devices.csv", turn), edits: 3 },
    Part { what: "after", edit: |_, _| {}, edits: 0 },
];

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "swap") {
        return;
    }
    let devices = std::env::var("TOLLGATE_SWAP_DEVICES").map_or(INVENTORY, |number| number.parse().unwrap());
    let clock = Clock::System;
    let world = World::new(&clock);
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_set(&world, devices, policies.path());
    let calls = Calls::new(Kind::Admitted, &world);
    let upstream = Process::role("upstream");
    let gateway = Process::tollgate(policies.path(), audit.path(), upstream.address, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    runtime.block_on(calls.clone().load(gateway.address, CALLS / 10));
    let start = clock.steady();
    runtime.block_on(calls.clone().load(gateway.address, CALLS));
    let capacity = CALLS as f64 / clock.steady().since(start).as_secs_f64();
    let rate = capacity / 5.0;
    println!("swap: {devices} devices, at most {capacity:.0} calls a second, now {rate:.0}");
    for Part { what, edit, edits } in PARTS {
        let editor = std::thread::spawn({
            let (folder, clock) = (policies.path().to_owned(), clock.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for turn in 0..edits {
                    edit(&folder, turn);
                    runtime.block_on(clock.sleep(PART / edits as u32));
                }
            }
        });
        let mut times = runtime.block_on(steady_calls(gateway.address, calls.clone(), rate, &clock));
        editor.join().unwrap();
        times.sort();
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
    }
}

/// The devices that are called for are in no group, and each of the others is asked of 10,000 rules.
fn write_set(world: &World, devices: u32, folder: &Path) {
    world.write(folder);
    let mut inventory = inventory::csv(devices);
    for number in 0..DEVICES {
        inventory.push_str(&format!("{number:040x},pc.bench.example,bench.example,,Windows11,\n"));
    }
    fs::write(folder.join("devices.csv"), inventory).unwrap();
    fs::write(folder.join("device-groups.toml"), inventory::groups()).unwrap();
    let applications = fs::read_to_string(folder.join("applications.toml")).unwrap();
    let groups = r#"["Ungrouped devices (default)", "group-0"]"#;
    let applications = applications.replace(r#"["Workstations", "Servers"]"#, groups);
    fs::write(folder.join("applications.toml"), applications).unwrap();
}

/// Writes a file beside and renames it, as a careful tool does; what it says is new each time.
fn edit(folder: &Path, name: &str, turn: usize) {
    let (path, beside) = (folder.join(name), folder.join(".new"));
    let mut text = fs::read_to_string(&path).unwrap();
    match name {
        "devices.csv" => text.push_str(&format!("{:040x},,,,,\n", 0xffff_0000_0000 + turn)),
        _ => text.push_str(&format!("# {turn}\n")),
    }
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// Calls at a steady rate over as many connections as there are requests, and how long each call took. One that comes
/// due while its connection waits for the answer before is counted from when it was due: who waits for a gateway that
/// stands still is not left out.
async fn steady_calls(gateway: SocketAddr, calls: Arc<Calls>, rate: f64, clock: &Clock) -> Vec<Duration> {
    let between = Duration::from_secs_f64(calls.each().len() as f64 / rate);
    let (tell, mut told) = mpsc::unbounded_channel();
    let start = clock.steady();
    let local = tokio::task::LocalSet::new();
    for connection in 0..calls.each().len() {
        let (calls, clock, tell) = (calls.clone(), clock.clone(), tell.clone());
        let mut due = start + between.mul_f64(connection as f64 / calls.each().len() as f64);
        local.spawn_local(async move {
            let mut stream = TcpStream::connect(gateway).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut buffer, mut ready) = (vec![0; 4_096], start);
            while due < start + PART {
                clock.sleep_until(due).await;
                let from = if ready > due { due } else { clock.steady() };
                stream.write_all(&calls.each()[connection]).await.unwrap();
                answer(&mut stream, &mut buffer).await;
                ready = clock.steady();
                tell.send(ready.since(from)).unwrap();
                due = due + between;
            }
        });
    }
    drop(tell);
    local.await;
    let mut times = Vec::new();
    while let Some(time) = told.recv().await {
        times.push(time);
    }
    times
}
