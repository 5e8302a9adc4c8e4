//! The sandbox: its stand-ins behave, it leaves nothing behind, and nothing that is shipped trusts it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tollgate::reload::{PolicySource, PolicyStore};
use tollgate::sandbox::issuer::Issuer;
use tollgate::sandbox::world::{PLAYBOOKS_SECRET, SandboxDevice, TENANT, Who, overlay};
use tollgate::sandbox::{Sandbox, SandboxSettings};
use tollgate::time::{Clock, ManualClock, Wall};

use crate::support::gateway::COMMENT;
use crate::support::process::{Process, Signal, address_of, text};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::tls::trusting;
use crate::support::within_deadline;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");

/// A device of the sandbox that no printed call names.
const FREE_DEVICE: &str = "srv-dc01.contoso.example";

/// A sandbox in this process. It stops when it is dropped.
struct TestSandbox(Option<Sandbox>);

impl TestSandbox {
    /// On a thread of its own: it waits for runtimes, which a test's own runtime would not allow.
    fn start(clock: Clock, running_for: Duration) -> Self {
        // Every process of rustls's users has to choose; the second choice is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let any = ([127, 0, 0, 1], 0).into();
        let settings = SandboxSettings { listen: any, admin: any, running_for };
        let start = move || Sandbox::start(&settings, clock).unwrap_or_else(|error| panic!("{error}"));
        Self(Some(std::thread::spawn(start).join().unwrap()))
    }

    fn get(&self) -> &Sandbox {
        self.0.as_ref().unwrap()
    }

    async fn collect(&self, token: &str, device: &str) -> RawResponse {
        RawClient::connect(self.get().server.address).await.collect(token, device, COMMENT).await
    }
}

impl Drop for TestSandbox {
    fn drop(&mut self) {
        let sandbox = self.0.take().unwrap();
        std::thread::spawn(move || sandbox.stop()).join().unwrap();
    }
}

fn manual() -> (Clock, Arc<ManualClock>) {
    Clock::manual(Wall::from_unix_seconds(1_795_513_600))
}

#[tokio::test]
async fn a_device_that_is_busy_refuses_a_second_collection_until_the_first_has_ended() {
    let (clock, hand) = manual();
    let sandbox = TestSandbox::start(clock, Duration::from_secs(30));
    let token = sandbox.get().tokens.of(Who::Responder).to_owned();
    let device = FREE_DEVICE;

    sandbox.collect(&token, device).await.assert_status(201);
    for (after, status) in [(0, 400), (29_999, 400), (1, 201), (0, 400), (30_000, 201)] {
        hand.advance(Duration::from_millis(after));
        let answer = sandbox.collect(&token, device).await;
        answer.assert_status(status);
        assert_eq!(answer.header("Tollgate-Reason"), None, "it is the API that answers");
        if status == 400 {
            let error = &answer.json()["error"];
            assert_eq!(error["code"], "ActiveRequestAlreadyExists");
            assert_eq!(error["message"], "Action is already in progress");
        }
    }
}

#[tokio::test]
async fn a_client_gets_a_token_over_https_and_over_http_that_the_gateway_then_admits() {
    let sandbox = TestSandbox::start(Clock::System, Duration::ZERO);
    let ca = std::fs::read(sandbox.get().ca()).unwrap();
    let plain = format!("http://{}", sandbox.get().issuer);
    let secure = sandbox.get().issuer_url.clone();
    let device = FREE_DEVICE;
    for (issuer, client) in
        [(secure, trusting(&ca).build().unwrap()), (plain, Client::builder().no_proxy().build().unwrap())]
    {
        // As a client library does: the token endpoint is found by discovery.
        let discovery = format!("{issuer}/{TENANT}/v2.0/.well-known/openid-configuration");
        let document = json(client.get(&discovery)).await;
        let endpoint = document["token_endpoint"].as_str().unwrap();
        assert!(endpoint.starts_with(&issuer), "{endpoint}");
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={PLAYBOOKS_SECRET}&scope={}",
            sandbox.get().client(),
            "https%3A%2F%2Fapi.securitycenter.microsoft.com%2F.default"
        );
        let request = client.post(endpoint).header("Content-Type", "application/x-www-form-urlencoded");
        let answer = json(request.body(form)).await;
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
        sandbox.collect(token, device).await.assert_status(201);
    }
}

async fn json(request: reqwest::RequestBuilder) -> Value {
    let answer = within_deadline("an answer", request.send()).await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_stranger_to_the_printed_ca_does_not_trust_the_issuer() {
    let sandbox = TestSandbox::start(manual().0, Duration::ZERO);
    let other = crate::support::tls::LocalCertificate::make().client();
    let url = format!("{}/{TENANT}/v2.0/.well-known/openid-configuration", sandbox.get().issuer_url);
    assert!(within_deadline("an error", other.get(url).send()).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn serve_on_the_shipped_set_starts_without_keys_is_not_ready_and_refuses_a_token_of_the_sandbox() {
    let sandbox = TestSandbox::start(Clock::System, Duration::ZERO);
    let args = ["serve", "--policies", SHIPPED, "--upstream", "http://127.0.0.1:1"];
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    // Nobody is behind this proxy: the issuer that the shipped set names is out of reach, wherever the test runs.
    let offline = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    let process = Process::start_in(args.iter().chain(&ports), offline);
    let gateway = address_of(&process.says("gateway ").await);
    let admin = address_of(&process.says("admin ").await);

    for who in Who::ALL {
        let token = sandbox.get().tokens.of(who);
        let answer = RawClient::connect(gateway).await.collect(token, FREE_DEVICE, COMMENT).await;
        answer.assert_status(401);
        assert_eq!(answer.header("Tollgate-Reason"), Some("wrong_issuer"), "{who:?}");
    }
    let mut admin = RawClient::connect(admin).await;
    admin.request("GET", "/livez", &[], "").await.assert_status(200);
    let readiness = admin.request("GET", "/readyz", &[], "").await;
    readiness.assert_status(503);
    let because = readiness.json()["because"].to_string();
    assert!(because.contains("issuer `commercial` has no keys"), "{because}");
}

#[tokio::test]
async fn the_shipped_set_compiles() {
    let (clock, _) = manual();
    let store = PolicyStore::open(PolicySource::Folder(SHIPPED.into()), clock);
    assert!(store.is_ok(), "{store:?}");
}

#[test]
fn no_shipped_file_mentions_the_sandbox_or_anything_in_it() {
    let (clock, _) = manual();
    let issuer = Issuer::new("https://localhost:65535", TENANT, Vec::new(), clock).unwrap();
    let mut words: BTreeSet<String> =
        ["sandbox", "localhost", "127.0.0.1", "contoso.example", PLAYBOOKS_SECRET].map(str::to_owned).into();
    for file in overlay(&issuer, "http://127.0.0.1:65535") {
        let ids = file.text().split(|letter: char| !letter.is_ascii_hexdigit() && letter != '-');
        words.extend(ids.filter(|id| matches!(id.len(), 36 | 40)).map(str::to_lowercase));
    }
    words.extend(SandboxDevice::ALL.iter().map(SandboxDevice::dns_name));
    // The API's own application, which the shipped set must name too.
    assert!(words.remove("fc780465-2017-40d4-a0c5-307022471b92"));
    assert!(words.len() > 25, "{words:?}");
    let folders = [SHIPPED.to_owned(), format!("{SHIPPED}/operations")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    assert!(files.len() > 15, "{files:?}");
    for path in files {
        let said = std::fs::read_to_string(&path).unwrap().to_lowercase();
        let found: Vec<_> = words.iter().filter(|word| said.contains(&word.to_lowercase())).collect();
        assert!(found.is_empty(), "{} mentions {found:?}", path.display());
    }
}

#[tokio::test]
async fn the_sandbox_keeps_its_files_to_itself_and_takes_them_away_when_it_stops() {
    for signal in [Signal::TERM, Signal::INT] {
        let temporary = tempfile::tempdir().unwrap();
        let process = start(temporary.path(), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let ca = process.prints("issuer CA ").await;
        let folder = Path::new(&ca).parent().unwrap();
        assert_eq!(folder.parent(), Some(temporary.path()));
        assert_eq!(std::fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        let files: BTreeSet<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, BTreeSet::from(["audit.jsonl".into(), "issuer-ca.pem".into()]));

        process.signal(signal);
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_sandbox_that_cannot_start_says_so_in_one_line_with_exit_code_2_and_leaves_no_files() {
    let temporary = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let ended = start(temporary.path(), &["--listen", &address, "--admin", "127.0.0.1:0"]).ended().await;
    let (Some(2), [], [line]) = (ended.code, ended.out.as_slice(), ended.err.as_slice()) else {
        panic!("{ended:#?}")
    };
    assert!(line.starts_with(&format!("error: cannot listen on `{address}`: ")), "{line}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_sandbox_works_where_a_proxy_is_set_for_everything() {
    let (temporary, nobody) = (tempfile::tempdir().unwrap(), "http://127.0.0.1:1");
    let environment = [
        ("TMPDIR", text(temporary.path())),
        ("http_proxy", nobody),
        ("HTTPS_PROXY", nobody),
        ("ALL_PROXY", nobody),
    ];
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let process = Process::start_in(args, environment);
    let gateway = address_of(&process.prints("gateway ").await);
    let token = printed_token(&process).await;
    RawClient::connect(gateway).await.collect(&token, FREE_DEVICE, COMMENT).await.assert_status(201);
}

#[tokio::test]
async fn collections_run_for_as_long_as_the_flag_says() {
    let temporary = tempfile::tempdir().unwrap();
    for (seconds, second) in [("0", 201), ("3600", 400)] {
        let flags = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--running-for", seconds];
        let process = start(temporary.path(), &flags);
        let gateway = address_of(&process.prints("gateway ").await);
        let token = printed_token(&process).await;
        for status in [201, second] {
            let answer = RawClient::connect(gateway).await.collect(&token, FREE_DEVICE, COMMENT).await;
            answer.assert_status(status);
        }
    }
}

/// `tollgate sandbox` with a folder of its own for temporary files.
fn start(temporary: &Path, flags: &[&str]) -> Process {
    Process::start_in([&["sandbox"], flags].concat(), [("TMPDIR", text(temporary))])
}

/// The token in the first of the printed calls, which is the application's.
async fn printed_token(process: &Process) -> String {
    let lines = process.prints_until(|line| line.starts_with("curl ")).await;
    let (_, rest) = lines.iter().find_map(|line| line.split_once("Bearer ")).unwrap();
    rest.split('\'').next().unwrap().to_owned()
}
