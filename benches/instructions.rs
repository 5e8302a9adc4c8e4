//! How many instructions the gateway and a plain Pingora proxy spend on a call outside the kernel, as callgrind counts
//! them: a figure that other processes do not disturb, to find out by what a change pays. `cargo bench -- instructions`;
//! it needs valgrind, and leaves a profile of each kind of call for `callgrind_annotate`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tollgate::time::Clock;

use crate::calls::{Calls, Kind};
use crate::gateway::Process;
use crate::world::World;

/// Calls before the count begins: connections to the upstream are made, tokens known, buffers grown.
const WARM_UP: u64 = 640;

/// Calls that are counted.
const CALLS: u64 = 3_200;

/// A process under callgrind.
struct Counted {
    process: Process,
    /// Beginning of the names of its profiles.
    profiles: PathBuf,
    dumps: u32,
}

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "instructions") {
        return;
    }
    let folder = std::env::temp_dir().join("tollgate-instructions");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let world = World::new(&Clock::System);
    // Apart, or each write of the audit would be looked at as a change of the policy.
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.write(policies.path());
    let upstream = Process::role("upstream");

    let started = |name: &str, command| Counted::start(&folder, name, command);
    let plain = Process::role_command(&format!("proxy={}", upstream.address));
    let mut plain = started("plain", plain);
    let base = plain.count("plain pingora", &Calls::new(Kind::Admitted, &world));
    drop(plain);
    let mut refusing = started("refusing", Process::role_command("refusing"));
    let base_refused = refusing.count("plain pingora refuses", &Calls::new(Kind::BadToken, &world));
    drop(refusing);
    let gateway = Process::tollgate_command(policies.path(), audit.path(), upstream.address, &[]);
    let mut gateway = started("tollgate", gateway);
    for kind in std::iter::once(Kind::Admitted).chain(Kind::REFUSED) {
        let base = if kind == Kind::Admitted { base } else { base_refused };
        let count = gateway.count(&format!("tollgate: {}", kind.as_str()), &Calls::new(kind, &world));
        eprintln!("instructions: {:.2} times plain pingora's", count as f64 / base as f64);
    }
    eprintln!("instructions: profiles in {}", folder.display());
}

impl Counted {
    fn start(folder: &Path, name: &str, command: Command) -> Self {
        let profiles = folder.join(name);
        let mut counted = Command::new("valgrind");
        counted
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", profiles.display()))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            counted.env(name, value.unwrap_or_default());
        }
        Self { process: Process::started(counted), profiles, dumps: 0 }
    }

    /// The instructions of one of these calls.
    fn count(&mut self, what: &str, calls: &std::sync::Arc<Calls>) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(calls.clone().load(self.process.address, WARM_UP));
        self.dump();
        runtime.block_on(calls.clone().load(self.process.address, CALLS));
        let profile = self.dump();
        let each = total(&profile) / CALLS;
        eprintln!("instructions: {what}: {each} a call ({})", profile.display());
        each
    }

    /// Writes down what was counted since the last time.
    fn dump(&mut self) -> PathBuf {
        self.dumps += 1;
        let dumped =
            Command::new("callgrind_control").arg("-d").arg(self.process.id().to_string()).output().unwrap();
        assert!(dumped.status.success(), "{dumped:?}");
        self.profiles.with_added_extension(self.dumps.to_string())
    }
}

fn total(profile: &Path) -> u64 {
    let text = std::fs::read_to_string(profile).unwrap();
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.unwrap().trim().parse().unwrap()
}
