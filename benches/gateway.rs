//! The real gateway under load, beside a plain Pingora proxy: processes of their own with one thread each, the same
//! allocator and the same profile, in front of the same upstream.
//!
//! `cpu` is user and system time of the proxy's process for one request, which other processes disturb little; `wall`
//! is the time between two answers at 64 connections, on a machine that the load and the upstream share. Then both are
//! called at the same rate.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tollgate::time::Clock;

use crate::calls::{CONNECTIONS, Calls, Kind};
use crate::plain;
use crate::world::World;

/// The environment variable that makes this binary one of the processes that are measured against.
const ROLE: &str = "TOLLGATE_BENCH_ROLE";

/// Calls a second at which both proxies are measured too. One that is loaded as far as it goes finds whoever it writes
/// to asleep more often the slower it is, and to wake one on another core takes a virtual machine microseconds: at one
/// rate both pay the same for that.
const RATES: [u32; 2] = [2_000, 8_000];

/// For how long.
const AT_A_RATE: Duration = Duration::from_secs(10);

/// A process that is ended with the benchmark.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// If this process is to be one of those that are measured against: be it, for ever.
pub(crate) fn play_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.split_once('=') {
        Some(("proxy", upstream)) => plain::proxy(upstream.parse().unwrap()),
        None if role == "refusing" => plain::refusing(),
        _ => plain::upstream(),
    }
}

pub(crate) fn bench(c: &mut Criterion) {
    let clock = Clock::System;
    let world = World::new(&clock);
    let (policies, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.write(policies.path());
    eprintln!("gateway: token of {} bytes", world.tokens[0].len());

    let upstream = Process::role("upstream");
    let refusing = Process::role("refusing");
    let plain = Process::role(&format!("proxy={}", upstream.address));
    let tollgate = Process::tollgate(policies.path(), audit.path(), upstream.address, &[]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("gateway");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(1));
    let refused = Kind::REFUSED.map(|kind| (format!("tollgate refuses: {}", kind.as_str()), &tollgate, kind));
    let admitted = [
        ("plain pingora".to_owned(), &plain, Kind::Admitted),
        ("tollgate".to_owned(), &tollgate, Kind::Admitted),
        ("plain pingora refuses".to_owned(), &refusing, Kind::BadToken),
    ];
    for (name, process, kind) in admitted.into_iter().chain(refused) {
        let calls = Calls::new(kind, &world);
        for measure in ["cpu", "wall"] {
            group.bench_function(BenchmarkId::new(measure, &name), |b| {
                b.iter_custom(|count| {
                    let (cpu, start) = (process.cpu(), clock.steady());
                    runtime.block_on(calls.clone().load(process.address, count.max(CONNECTIONS)));
                    let scale = count as f64 / count.max(CONNECTIONS) as f64;
                    let spent = match measure {
                        "cpu" => process.cpu() - cpu,
                        _ => clock.steady().since(start),
                    };
                    spent.mul_f64(scale)
                });
            });
        }
        eprintln!("gateway: {name} resident {} KiB", process.resident());
    }
    group.finish();
    for rate in RATES {
        for (name, process) in [("plain pingora", &plain), ("tollgate", &tollgate)] {
            let cpu = process.cpu();
            let calls = Calls::new(Kind::Admitted, &world);
            let times = runtime.block_on(calls.at_rate(process.address, f64::from(rate), AT_A_RATE));
            let cpu = (process.cpu() - cpu).as_secs_f64() * 1e6 / times.len() as f64;
            let at = |part: usize| times[(times.len() - 1) * part / 1_000].as_micros();
            let (p50, p99, p999) = (at(500), at(990), at(999));
            eprintln!(
                "gateway: {rate} calls a second: {name}: {cpu:.1} µs of processor time a call, p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs"
            );
        }
    }
}

impl Process {
    pub(crate) fn role(role: &str) -> Self {
        Self::started(Self::role_command(role))
    }

    pub(crate) fn role_command(role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role);
        command
    }

    pub(crate) fn tollgate(policies: &Path, audit: &Path, upstream: SocketAddr, more: &[&str]) -> Self {
        Self::started(Self::tollgate_command(policies, audit, upstream, more))
    }

    pub(crate) fn tollgate_command(
        policies: &Path,
        audit: &Path,
        upstream: SocketAddr,
        more: &[&str],
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--threads", "1", "--log", "warn"])
            .args(["--upstream", &format!("http://{upstream}")])
            .arg("--audit")
            .arg(audit.join("audit.jsonl"))
            .arg("--policies")
            .arg(policies)
            .args(more);
        command
    }

    /// Starts a process and waits for the line of its standard error that names its address, and then until it listens
    /// there: Pingora binds its own socket a while later.
    pub(crate) fn started(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address: Option<SocketAddr> = lines.find_map(|line| {
            let line = line.unwrap();
            let address = line.strip_prefix("address ").or(line.strip_prefix("gateway  http://"));
            let address = address.map(|address| address.split(' ').next().unwrap().parse().unwrap());
            said.push(line);
            address
        });
        assert!(address.is_some(), "{command:?} said:\n{}", said.join("\n"));
        let address = address.unwrap();
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "it ended at its start");
            std::thread::yield_now();
        }
        // Whatever it says from now on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{}", line.unwrap_or_default())));
        Self { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processor time of all its threads, in nanoseconds' resolution (`schedstat`, first field).
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.map(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }

    /// `VmRSS`.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that listens on a port of its own, its address printed for whoever started this process.
pub(crate) fn listen() -> TcpListener {
    let listener = bind();
    eprintln!("address {}", listener.local_addr().unwrap());
    listener
}

pub(crate) fn bind() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}
