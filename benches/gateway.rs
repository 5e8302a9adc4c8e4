//! The real gateway under load, beside a plain Pingora proxy: processes of their own with one thread each, the same
//! allocator and the same profile, in front of the same upstream.
//!
//! `cpu` is user and system time of the proxy's process for one request, which other processes disturb little; `wall`
//! is the time between two answers at 64 connections, on a machine that the load and the upstream share.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::time::Clock;

use crate::plain;
use crate::world::{World, device};

/// The environment variable that makes this binary one of the processes that are measured against.
const ROLE: &str = "TOLLGATE_BENCH_ROLE";

/// Connections that call at once.
const CONNECTIONS: u64 = 64;

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
    let calls = Arc::new(requests(&world));
    eprintln!("gateway: token of {} bytes", world.tokens[0].len());

    let refused = Arc::new(requests_of("none"));
    let upstream = Process::role("upstream");
    let refusing = Process::role("refusing");
    let plain = Process::role(&format!("proxy={}", upstream.address));
    let tollgate = Process::tollgate(policies.path(), audit.path(), upstream.address, &[]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("gateway");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(1));
    for (name, process, calls) in [
        ("plain pingora", &plain, &calls),
        ("tollgate", &tollgate, &calls),
        ("plain pingora refuses", &refusing, &refused),
        ("tollgate refuses", &tollgate, &refused),
    ] {
        for measure in ["cpu", "wall"] {
            group.bench_function(BenchmarkId::new(measure, name), |b| {
                b.iter_custom(|count| {
                    let (cpu, start) = (process.cpu(), clock.steady());
                    runtime.block_on(load(process.address, calls.clone(), count.max(CONNECTIONS)));
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
}

/// One request of each connection, as bytes.
pub(crate) fn requests(world: &World) -> Vec<Vec<u8>> {
    world.tokens.iter().zip(0..).map(request).collect()
}

/// The same with a token that is none.
fn requests_of(token: &str) -> Vec<Vec<u8>> {
    let token = token.to_owned();
    (0..CONNECTIONS).map(|number| request((&token, number))).collect()
}

fn request((token, number): (&String, u64)) -> Vec<u8> {
    let body = r#"{"Comment":"Collect forensics due to alert 1234"}"#;
    format!(
        "POST /api/machines/{}/collectInvestigationPackage HTTP/1.1\r\nHost: gateway.example\r\n\
         User-Agent: bench\r\nAccept: application/json\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        device(number),
        body.len()
    )
    .into_bytes()
}

/// Sends `count` requests over 64 connections and reads their answers.
pub(crate) async fn load(address: SocketAddr, calls: Arc<Vec<Vec<u8>>>, count: u64) {
    let local = tokio::task::LocalSet::new();
    for connection in 0..CONNECTIONS {
        let share = count / CONNECTIONS + u64::from(connection < count % CONNECTIONS);
        let calls = calls.clone();
        local.spawn_local(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = vec![0; 4_096];
            for _ in 0..share {
                stream.write_all(&calls[connection as usize]).await.unwrap();
                answer(&mut stream, &mut buffer).await;
            }
        });
    }
    local.await;
}

/// Reads one answer, whose body ends with its JSON; anything but a 201 or a 401 ends the benchmark.
pub(crate) async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
        let Some(end) = find(&buffer[..length], b"\r\n\r\n") else { continue };
        let known = [&b"HTTP/1.1 201"[..], b"HTTP/1.1 401"].iter().any(|status| buffer.starts_with(status));
        assert!(known, "{}", String::from_utf8_lossy(&buffer[..length]));
        if length > end + 4 && buffer[..length].ends_with(b"}") {
            return;
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

impl Process {
    pub(crate) fn role(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role);
        Self::spawn(command, |line| line.strip_prefix("address ").map(str::to_owned))
    }

    pub(crate) fn tollgate(policies: &Path, audit: &Path, upstream: SocketAddr, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--threads",
                "1",
                "--log",
                "warn",
            ])
            .args(["--upstream", &format!("http://{upstream}")])
            .arg("--audit")
            .arg(audit.join("audit.jsonl"))
            .arg("--policies")
            .arg(policies)
            .args(more);
        Self::spawn(command, |line| line.strip_prefix("gateway  http://").map(str::to_owned))
    }

    /// Starts a process and waits for the line of its standard error that names its address.
    fn spawn(mut command: Command, address: impl Fn(&str) -> Option<String>) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| address(&line.unwrap())).unwrap().parse().unwrap();
        // Whatever it says from now on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{}", line.unwrap_or_default())));
        Self { child, address }
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    eprintln!("address {}", listener.local_addr().unwrap());
    listener
}
