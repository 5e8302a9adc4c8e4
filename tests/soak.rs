//! Many calls through the real binary: each is answered as the line alone decides it, and memory stays flat.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tollgate::actions::Actions;
use tollgate::admit::{Line, Request, RequestHead, admit};
use tollgate::denial::Denial;
use tollgate::id::UserId;
use tollgate::limit::Limiter;
use tollgate::outcome::{Findings, ReasonCode};
use tollgate::policy::BodyError;
use tollgate::proxy::reply::row;
use tollgate::sandbox::api::{Api, ApiDevice, ApiLimits, ApiSettings, Collections};
use tollgate::sandbox::issuer::Caller;
use tollgate::sandbox::listen;
use tollgate::snapshot::Snapshot;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, EXECUTIVE, PORTAL, READERS, UNGROUPED, WORKSTATION, playbooks, policy_with, portal, responder,
    token_of_today, write_policy,
};
use crate::support::process::{Process, address_of, text};
use crate::support::raw::RawClient;

/// As many as the gateway must take without growing.
const CALLS: usize = 50_000;

/// Each has callers of its own, so that its calls alone spend their limits, in the order that it makes them.
const CONNECTIONS: usize = 4;

/// How much the gateway's resident memory may grow from the first tenth of the calls to the last: an allocator's
/// slack. A leak of 1 KiB a call would be 44 MiB.
const GROWTH: u64 = 16 * 1024;

/// One call, and whose.
#[derive(Debug, Clone, Copy)]
enum What {
    Collect(&'static str, &'static str),
    Read(&'static str),
    List,
}

/// Who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Playbooks,
    Responder,
    Portal,
    Reader,
    Nobody,
}

/// The request as the line sees it.
struct InMemory {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request for InMemory {
    fn head(&self) -> RequestHead<'_> {
        RequestHead { method: &self.method, target: &self.target, headers: &self.headers }
    }

    async fn read_body(&mut self, max: usize) -> Result<Bytes, Denial> {
        if self.body.len() > max { Err(BodyError::TooLarge { max }.into()) } else { Ok(self.body.clone()) }
    }
}

impl What {
    fn request(self, token: Option<&str>) -> InMemory {
        let (method, target, body) = match self {
            Self::Collect(device, body) => {
                (Method::POST, format!("/api/machines/{device}/collectInvestigationPackage"), body)
            }
            Self::Read(device) => (Method::GET, format!("/api/machines/{device}"), ""),
            Self::List => (Method::GET, "/api/machines".to_owned(), ""),
        };
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        InMemory { method, target, headers, body: Bytes::from_static(body.as_bytes()) }
    }
}

/// Nine calls in ten pass every check but the limits.
fn calls() -> impl Strategy<Value = (Who, What)> {
    let device =
        || prop_oneof![Just(WORKSTATION), Just(EXECUTIVE), Just(UNGROUPED), Just("ws-9.test.example")];
    let who = prop_oneof![
        Just(Who::Playbooks),
        Just(Who::Responder),
        Just(Who::Portal),
        Just(Who::Reader),
        Just(Who::Nobody)
    ];
    prop_oneof![
        12 => Just((Who::Playbooks, What::Collect(WORKSTATION, COMMENT))),
        12 => Just((Who::Responder, What::Collect("WS-1.test.example", COMMENT))),
        12 => Just((Who::Portal, What::Collect(EXECUTIVE, COMMENT))),
        12 => Just((Who::Portal, What::Read(WORKSTATION))),
        6 => Just((Who::Reader, What::List)),
        4 => (who, prop_oneof![
            device().prop_map(|device| What::Collect(device, COMMENT)),
            device().prop_map(|device| What::Collect(device, "{}")),
            device().prop_map(What::Read),
            Just(What::List),
        ]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_calls_are_answered_as_the_line_alone_decides_in_memory_that_stays_flat() {
    let files = policy_with(
        "operations.toml",
        // Per tenant and application, which all connections share: never full here.
        &include_str!("support/policy/operations.toml")
            .replace("100 per minute\", \"1500 per hour", "100000 per hour"),
    );
    let mut files = files;
    // Per user, and each connection has its own: full near the end of the run.
    files.insert(tollgate::source::SourceFile::new(
        "limits.toml",
        "[[limit]]\nname = \"user-collects\"\noperations = [\"collect\"]\nper = [\"tenant\", \"user\"]\nwindows = [\"2400 per hour\"]\n",
    ));
    let folder = tempfile::tempdir().unwrap();
    write_policy(&files, folder.path());
    let api = api().await;
    let gateway = Process::start([
        "serve",
        "--policies",
        text(folder.path()),
        "--upstream",
        &format!("http://{api}"),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--threads",
        "1",
        "--log",
        "warn",
    ]);
    let address = address_of(&gateway.says("gateway  ").await);

    let snapshot = Arc::new(Snapshot::compile(&files, None, Clock::System.wall()).unwrap());
    let mut rounds = Vec::new();
    let mut connections: Vec<_> =
        (0..CONNECTIONS).map(|number| Connection::new(number, snapshot.clone())).collect();
    for _ in 0..10 {
        let running: Vec<_> = connections
            .drain(..)
            .map(|connection| tokio::spawn(connection.run(address, CALLS / CONNECTIONS / 10)))
            .collect();
        for connection in running {
            connections.push(connection.await.unwrap());
        }
        rounds.push(gateway.resident());
    }

    let admitted: usize = connections.iter().map(|connection| connection.admitted).sum();
    let over: usize = connections.iter().map(|connection| connection.over_limit).sum();
    assert!(admitted >= CALLS * 9 / 10, "{admitted} of {CALLS} admitted");
    assert!(over > 0, "no limit was ever full");
    let grown = rounds[9].saturating_sub(rounds[0]);
    assert!(grown <= GROWTH, "resident KiB after each tenth: {rounds:?}");
}

/// One connection's calls, and the line that says what their answers must be.
struct Connection {
    line: Line,
    snapshot: Arc<Snapshot>,
    tokens: Vec<(Who, String)>,
    calls: TestRunner,
    admitted: usize,
    over_limit: usize,
}

impl Connection {
    fn new(number: usize, snapshot: Arc<Snapshot>) -> Self {
        let user =
            |caller: Caller| caller.claim("oid", UserId::from_u128(0xc0_00 + number as u128).to_string());
        let reader = Caller::user(UserId::from_u128(1), "reader@test.example", PORTAL)
            .permissions(["Machine.Read"])
            .groups([READERS]);
        let tokens = vec![
            (Who::Playbooks, token_of_today(&playbooks())),
            (Who::Responder, token_of_today(&user(responder()))),
            (Who::Portal, token_of_today(&portal())),
            (Who::Reader, token_of_today(&reader)),
        ];
        let seed = [number as u8; 32];
        let calls =
            TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let line = Line { limiter: Limiter::new(), actions: Actions::new(10), clock: Clock::System };
        Self { line, snapshot, tokens, calls, admitted: 0, over_limit: 0 }
    }

    async fn run(mut self, address: SocketAddr, count: usize) -> Self {
        let mut client = RawClient::connect(address).await;
        let strategy = calls();
        for _ in 0..count {
            let (who, what) = strategy.new_tree(&mut self.calls).unwrap().current();
            let token = self.tokens.iter().find(|(other, _)| *other == who).map(|(_, token)| token.clone());
            let mut request = what.request(token.as_deref());
            let expected = self.decide(&mut request).await;

            let headers: Vec<_> = request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            let answer =
                client.request(request.method.as_str(), &request.target, &headers, &request.body).await;

            let reason = answer.header("Tollgate-Reason").map(str::to_owned);
            assert_eq!(
                reason.as_deref(),
                expected.map(ReasonCode::as_str),
                "{who:?} {what:?}: {}",
                answer.text()
            );
            match expected.and_then(row) {
                Some(row) => answer.assert_status(row.status.as_u16()),
                None => assert!([200, 201, 404].contains(&answer.status), "{}", answer.text()),
            }
        }
        self
    }

    async fn decide(&mut self, request: &mut InMemory) -> Option<ReasonCode> {
        match admit(&self.line, &self.snapshot, request, &mut Findings::default()).await {
            Ok(mut permit) => {
                permit.forwarded();
                self.admitted += 1;
                None
            }
            Err(denial) => {
                self.over_limit += usize::from(denial.reason() == ReasonCode::OverLimit);
                Some(denial.reason())
            }
        }
    }
}

/// The stand-in for the API, with the devices of the policy and without limits of its own.
async fn api() -> SocketAddr {
    let device = |id: &str, name: &str| ApiDevice {
        id: id.parse().unwrap(),
        entra_id: None,
        name: name.to_owned(),
        os_platform: "Windows11".to_owned(),
        tags: Vec::new(),
        group: None,
        collections: Collections::Last(std::time::Duration::ZERO),
    };
    let devices = vec![
        device(WORKSTATION, "ws-1.test.example"),
        device(EXECUTIVE, "exec-1.test.example"),
        device(UNGROUPED, "odd-1.test.example"),
    ];
    let api =
        Api::new(ApiSettings { devices, limits: ApiLimits::Off, ..ApiSettings::default() }, Clock::System);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let router = api.router();
    tokio::spawn(async move { listen::serve(listener, router).await });
    address
}
