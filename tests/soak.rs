//! Many calls in a row: each is answered as the line alone decides it, and nothing piles up.

use std::fmt::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::ResponseHeader;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tollgate::actions::Actions;
use tollgate::admit::{Line, Request, RequestHead, admit};
use tollgate::denial::Denial;
use tollgate::id::{ActionId, ApplicationId, DeviceRef, UserId};
use tollgate::limit::{FailedLogins, Limiter};
use tollgate::outcome::{Findings, ReasonCode};
use tollgate::policy::{Answer as PolicyAnswer, BodyError};
use tollgate::proxy::reply::{Reply, rate_limits};
use tollgate::sandbox::api::{Api, ApiDevice, ApiLimits, ApiSettings, Collections};
use tollgate::sandbox::issuer::Caller;
use tollgate::sandbox::listen;
use tollgate::snapshot::Snapshot;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Clock;

use crate::support::gateway::{COMMENT, RESPONDERS, Setup, TestGateway, policy, rewritten, token};
use crate::support::raw::{RawClient, RawResponse};

const CALLS: usize = 50_000;

/// Each calls through two applications of its own, so that no order between connections decides anything.
const CONNECTIONS: usize = 8;

/// The clock stands still while the calls of a round are made, on both sides of the comparison.
const ROUNDS: usize = 50;

const DEVICES: usize = 100;

/// What the process may hold more after the last call than after a fifth of them. 7 MiB of it are the memories of
/// actions on three sides, the gateway's, the comparison's and the stand-in's, which have bounds of their own that
/// are not reached by then. A leak of 128 bytes a call would be seen.
const GROWTH: u64 = 12 << 20;

/// The tests of this binary share a process, and memory. So this one has a process of its own.
#[test]
fn each_of_fifty_thousand_calls_is_answered_as_the_line_alone_decides_it_and_memory_stays_flat() {
    let itself = std::env::current_exe().unwrap();
    let soak =
        Command::new(itself).args(["soak::soak", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&soak.stdout), String::from_utf8_lossy(&soak.stderr));
    assert!(soak.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process of its own"]
async fn soak() {
    let world = World::start();
    let barrier = Arc::new(Barrier::new(CONNECTIONS + 1));
    let mut connections = JoinSet::new();
    for number in 0..CONNECTIONS {
        let caller = Connection::new(number, &world).await;
        connections.spawn(caller.run(barrier.clone()));
    }
    let mut resident = 0;
    let mut random = Random(7);
    let mut tallies = Vec::new();
    for round in 0..ROUNDS {
        // Everybody waits at both ends of a round.
        for _ in 0..2 {
            tokio::select! {
                biased;
                _ = barrier.wait() => {}
                // Whoever ends well has passed the last barrier, so that it is open: it may be seen before.
                Some(ended) = connections.join_next() => tallies.push(ended.unwrap()),
            }
        }
        world.gateway.hand.advance(Duration::from_millis(4_000 + random.below(12_000)));
        if round + 1 == ROUNDS / 5 {
            resident = resident_memory();
        }
    }
    let grown = resident_memory().saturating_sub(resident);
    tallies.extend(connections.join_all().await);
    let tally = tallies.into_iter().fold(Tally::default(), Tally::and);
    println!("{tally:?}, {} KiB resident after a fifth, {} KiB more at the end", resident >> 10, grown >> 10);
    assert_eq!(tally.calls, CALLS);
    assert!(tally.admitted * 10 >= CALLS * 9, "{tally:?}");
    // What is compared is worth comparing: every kind of refusal that was meant to happen did.
    for (reason, count) in
        [("over_limit", tally.over_limit), ("unknown_action", tally.unknown_action), ("others", tally.others)]
    {
        assert!(count > 0, "{reason}: {tally:?}");
    }
    assert_eq!(world.api.received() as usize, tally.admitted);
    assert!(grown < GROWTH, "{grown} bytes more after {} more calls", CALLS * 4 / 5);
}

/// How much memory the process has, in bytes.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// The gateway in front of the stand-in for the API.
struct World {
    api: Arc<Api>,
    gateway: TestGateway,
    snapshot: Arc<Snapshot>,
    _upstream: JoinSet<()>,
}

/// One connection, and the line that decides its calls a second time.
struct Connection {
    client: RawClient,
    line: Line,
    snapshot: Arc<Snapshot>,
    random: Random,
    tokens: Tokens,
    /// Actions that were started here, the last ones.
    actions: Vec<String>,
    tally: Tally,
}

/// The callers of a connection.
struct Tokens {
    /// An application that is confined to Workstations.
    worker: String,
    /// An application without bounds.
    desk: String,
    /// A user who came through it.
    analyst: String,
    expired: String,
}

#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    admitted: usize,
    over_limit: usize,
    unknown_action: usize,
    others: usize,
}

/// A request in memory.
#[derive(Clone)]
struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: &'static str,
}

/// A generator that gives the same numbers in every run (Steele, Lea and Flood, *SplitMix*).
struct Random(u64);

// === impl World ===

impl World {
    fn start() -> Self {
        // Its collections end as soon as they begin, and its own limits are off: whatever is refused, the gateway did.
        let settings = ApiSettings {
            devices: (0..DEVICES).map(api_device).collect(),
            running_for: Duration::ZERO,
            limits: ApiLimits::Off,
            ..ApiSettings::default()
        };
        let api = Api::new(settings, Clock::System);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut upstream = JoinSet::new();
        let router = api.router();
        upstream.spawn(async move { listen::serve(listener, router).await.unwrap() });
        let gateway = Setup::new(address).policy(files()).start();
        let snapshot = Snapshot::compile(&files(), None, gateway.clock.wall()).unwrap();
        Self { api, gateway, snapshot: Arc::new(snapshot), _upstream: upstream }
    }
}

fn device_id(number: usize) -> String {
    format!("{number:040x}")
}

/// Three of five are workstations, one is an executive's, one is in no group.
fn name_and_platform(number: usize) -> (String, &'static str) {
    match number % 5 {
        0..=2 => (format!("ws-{number}.test.example"), "Windows11"),
        3 => (format!("exec-{number}.test.example"), "Windows11"),
        _ => (format!("odd-{number}.test.example"), "Linux"),
    }
}

fn api_device(number: usize) -> ApiDevice {
    let (name, os_platform) = name_and_platform(number);
    ApiDevice {
        id: device_id(number).parse().unwrap(),
        entra_id: None,
        name,
        os_platform: os_platform.to_owned(),
        tags: Vec::new(),
        group: None,
        collections: Collections::AsSet,
    }
}

fn worker(number: usize) -> ApplicationId {
    ApplicationId::from_u128(0xb00 + number as u128)
}

fn desk(number: usize) -> ApplicationId {
    ApplicationId::from_u128(0xc00 + number as u128)
}

/// The set of the tests with an application or two for each connection, limits that few calls meet, and more devices.
fn files() -> PolicyFiles {
    let limits = r#"["100 per minute", "1500 per hour"]"#;
    let files = rewritten(policy(), "operations.toml", limits, r#"["185 per minute", "9000 per hour"]"#);
    let limits = r#"["2 per minute", "120 per hour"]"#;
    let mut files = rewritten(files, "operations.toml", limits, r#"["220 per minute", "9000 per hour"]"#);
    let mut applications = String::new();
    for number in 0..CONNECTIONS {
        for (id, name, confined_to) in
            [(worker(number), "worker", r#"["Workstations"]"#), (desk(number), "desk", r#""all""#)]
        {
            writeln!(applications, "[[application]]\nid = \"{id}\"\nname = \"{name}-{number}\"").unwrap();
            writeln!(applications, "operations = \"all\"\ndevice_groups = {confined_to}").unwrap();
        }
    }
    let mut devices = "Device ID,Device Name,Domain,OS Platform,Tags\n".to_owned();
    for number in 0..DEVICES {
        let (name, os_platform) = name_and_platform(number);
        writeln!(devices, "{},{name},test.example,{os_platform},", device_id(number)).unwrap();
    }
    files.insert(SourceFile::new("applications.toml", applications));
    files.insert(SourceFile::new("devices.csv", devices));
    files
}

// === impl Connection ===

impl Connection {
    async fn new(number: usize, world: &World) -> Self {
        let application =
            |id| Caller::application(id).permissions(["Machine.CollectForensics", "Machine.Read.All"]);
        let analyst = Caller::user(UserId::from_u128(number as u128), "analyst@test.example", desk(number))
            .permissions(["Machine.CollectForensics", "Machine.Read"])
            .groups([RESPONDERS]);
        Self {
            client: world.gateway.connect().await,
            line: Line {
                limiter: Limiter::new(),
                logins: FailedLogins::new(),
                actions: Actions::new(Actions::DEFAULT_CAPACITY),
                clock: world.gateway.clock.clone(),
            },
            snapshot: world.snapshot.clone(),
            random: Random(number as u64),
            tokens: Tokens {
                worker: token(&application(worker(number))),
                desk: token(&application(desk(number))),
                analyst: token(&analyst),
                expired: token(&application(desk(number)).claim("exp", 1_000_000)),
            },
            actions: Vec::new(),
            tally: Tally::default(),
        }
    }

    async fn run(mut self, barrier: Arc<Barrier>) -> Tally {
        for _ in 0..ROUNDS {
            barrier.wait().await;
            for _ in 0..CALLS / CONNECTIONS / ROUNDS {
                self.call().await;
            }
            barrier.wait().await;
        }
        self.tally
    }

    /// Makes a call, and holds its answer to what the line alone decides.
    async fn call(&mut self) {
        let call = self.choose();
        let answer =
            self.client.request(call.method.as_str(), &call.target, &call.headers(), call.body).await;
        let mut found = Findings::default();
        let decision = admit(&self.line, &self.snapshot, &mut call.clone(), &mut found).await;
        self.tally.calls += 1;
        match decision {
            Ok(mut permit) => {
                permit.forwarded();
                let mut header = ResponseHeader::build(200, None).unwrap();
                rate_limits(&mut header, &found.standings).unwrap();
                assert_eq!(answer.header("Tollgate-Reason"), None, "{call:?}: {answer:?}");
                for name in ["RateLimit", "RateLimit-Policy"] {
                    assert_eq!(answer.header(name), text(header.headers.get(name)), "{call:?}: {answer:?}");
                }
                self.tally.admitted += 1;
                if let (PolicyAnswer::Started(device), 201) = (permit.answer(), answer.status) {
                    self.remember(&answer, device);
                }
            }
            Err(denial) => {
                let id = answer.json()["error"]["target"].as_str().unwrap().parse().unwrap();
                let reply = Reply::to(&denial, &found.standings, id).unwrap();
                assert_eq!(answer.status, reply.header.status.as_u16(), "{call:?}: {answer:?}");
                assert_eq!(answer.body, reply.body, "{call:?}: {answer:?}");
                for (name, value) in &reply.header.headers {
                    assert_eq!(
                        answer.header(name.as_str()),
                        text(Some(value)),
                        "{name} of {call:?}: {answer:?}"
                    );
                }
                match denial.reason() {
                    ReasonCode::OverLimit => self.tally.over_limit += 1,
                    ReasonCode::UnknownAction => self.tally.unknown_action += 1,
                    _ => self.tally.others += 1,
                }
            }
        }
    }

    fn choose(&mut self) -> Call {
        let place = self.random.below(DEVICES as u64 / 5) as usize * 5;
        let workstation = place + self.random.below(3) as usize;
        let (executive, odd) = (place + 3, place + 4);
        let by_some_name = |number: usize, word: u64| match word {
            0 => device_id(number).to_uppercase(),
            1 => name_and_platform(number).0,
            _ => device_id(number),
        };
        let action = match self.actions.len() as u64 {
            0 => "none-yet".to_owned(),
            known => self.actions[self.random.below(known) as usize].clone(),
        };
        let name = self.random.below(3);
        let Tokens { worker, desk, analyst, expired } = &self.tokens;
        match self.random.below(1_000) {
            0..200 => Call::collect(Some(worker), &by_some_name(workstation, name)),
            200..225 => Call::collect(Some(analyst), &by_some_name(odd, name)),
            225..420 => Call::get(Some(worker), &format!("/api/machineactions/{action}/getPackageUri")),
            420..600 => Call::get(Some(desk), &format!("/api/machines/{}", by_some_name(executive, name))),
            600..850 => {
                Call::get(Some(worker), &format!("/api/machines/{}", by_some_name(workstation, name)))
            }
            850..967 => Call::get(Some(analyst), "/api/machines?$top=2"),
            967..970 => Call::collect(Some(worker), &by_some_name(executive, name)),
            970..973 => Call::collect(Some(worker), &by_some_name(odd, name)),
            973..976 => Call::collect(Some(analyst), &by_some_name(executive, name)),
            976..979 => Call::collect(Some(worker), &device_id(DEVICES + place)),
            979..982 => {
                Call { body: r#"{"Comment":" "}"#, ..Call::collect(Some(worker), &device_id(workstation)) }
            }
            982..985 => Call::get(Some(worker), "/api/machineactions/unheard-of/getPackageUri"),
            985..988 => Call::get(Some(worker), "/api/machines"),
            988..991 => Call::get(Some(expired), "/api/machines"),
            991..994 => Call::get(None, "/api/machines"),
            _ => Call::get(Some(desk), "/api/alerts"),
        }
    }

    /// What the gateway learns from the API's answer.
    fn remember(&mut self, answer: &RawResponse, device: &DeviceRef) {
        let action = answer.json();
        let id = action["id"].as_str().unwrap();
        let taken = action["machineId"].as_str().and_then(|id| id.parse().ok()).map(DeviceRef::Id);
        self.line.actions.record(ActionId::parse(id).unwrap(), taken.unwrap_or_else(|| device.clone()));
        if self.actions.len() == 32 {
            self.actions.remove(0);
        }
        self.actions.push(id.to_owned());
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.map(|value| value.to_str().unwrap())
}

// === impl Call ===

impl Call {
    fn get(token: Option<&String>, target: &str) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(
                http::header::AUTHORIZATION,
                HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
            );
        }
        Self { method: Method::GET, target: target.to_owned(), headers, body: "" }
    }

    fn collect(token: Option<&String>, device: &str) -> Self {
        let mut call = Self::get(token, &format!("/api/machines/{device}/collectInvestigationPackage"));
        call.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { method: Method::POST, body: COMMENT, ..call }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }
}

/// Without its token.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.method, self.target, self.body)
    }
}

impl Request for Call {
    fn head(&self) -> RequestHead<'_> {
        RequestHead { method: &self.method, target: &self.target, headers: &self.headers, address: None }
    }

    async fn read_body(&mut self, max: usize) -> Result<Bytes, Denial> {
        match self.body.len() {
            length if length > max => Err(BodyError::TooLarge { max }.into()),
            _ => Ok(Bytes::from_static(self.body.as_bytes())),
        }
    }
}

// === impl Tally ===

impl Tally {
    fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            admitted: self.admitted + other.admitted,
            over_limit: self.over_limit + other.over_limit,
            unknown_action: self.unknown_action + other.unknown_action,
            others: self.others + other.others,
        }
    }
}

// === impl Random ===

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
