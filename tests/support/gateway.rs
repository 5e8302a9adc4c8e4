//! The real gateway on a port of its own, its policy, its issuer and its clock in the test's hands.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tollgate::id::{ApplicationId, EntraGroupId, TenantId, UserId};
use tollgate::proxy::{Bounds, TrustedHops};
use tollgate::reload::PolicySource;
use tollgate::sandbox::issuer::{Caller, Issuer, TokenVersion};
use tollgate::server::Server;
use tollgate::settings::{DoorSettings, Settings, TlsSettings, UpstreamSettings, UpstreamUrl};
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::telemetry::audit::{AuditFullMode, AuditTarget};
use tollgate::time::{Clock, ManualClock, Wall};

use crate::support::raw::{RawClient, RawResponse};

/// The tenant of every token that says nothing else.
pub(crate) const TENANT: TenantId = TenantId::from_u128(0x7e);
/// Confined to the device group Workstations, and to `collect`, `package_uri`, `upload_file`, `list_devices`.
pub(crate) const PLAYBOOKS: ApplicationId = ApplicationId::from_u128(0xa1);
/// May do everything that its tokens say; users come through it.
pub(crate) const PORTAL: ApplicationId = ApplicationId::from_u128(0xa2);
/// The Entra group of the role Responder.
pub(crate) const RESPONDERS: EntraGroupId = EntraGroupId::from_u128(0xe1);
/// The Entra group of the role Reader.
pub(crate) const READERS: EntraGroupId = EntraGroupId::from_u128(0xe2);
/// The Entra group that the device group Executives is open to.
pub(crate) const EXECUTIVE_SUPPORT: EntraGroupId = EntraGroupId::from_u128(0xe3);

/// A device of the group Workstations.
pub(crate) const WORKSTATION: &str = "1111111111111111111111111111111111111111";
/// A device of the group Executives.
pub(crate) const EXECUTIVE: &str = "2222222222222222222222222222222222222222";
/// A device of no group.
pub(crate) const UNGROUPED: &str = "3333333333333333333333333333333333333333";

/// 2026-11-24T09:46:40Z, when every manual clock begins.
pub(crate) const BEGINNING: Wall = Wall::from_unix_seconds(1_795_513_600);

/// A body that a collection takes.
pub(crate) const COMMENT: &str = r#"{"Comment":"alert 1234"}"#;

/// Making an RSA key takes longer than most tests, so all of them share one issuer; it never learns the time, so
/// tokens are made at [`BEGINNING`].
static ISSUER: LazyLock<Arc<Issuer>> = LazyLock::new(|| {
    let (clock, _) = Clock::manual(BEGINNING);
    Issuer::new("https://issuer.example", TENANT, Vec::new(), clock).unwrap()
});

/// A gateway under test. It stops when it is dropped.
pub(crate) struct TestGateway {
    server: Option<Server>,
    /// Moves the gateway's time.
    pub(crate) hand: Arc<ManualClock>,
    pub(crate) clock: Clock,
}

/// How a gateway under test is set up.
pub(crate) struct Setup {
    source: Source,
    upstream: UpstreamSettings,
    tls: Option<TlsSettings>,
    audit: Option<PathBuf>,
    state: Option<PathBuf>,
    audit_full: AuditFullMode,
    public_url: Option<UpstreamUrl>,
    threads: NonZeroUsize,
    trusted_hops: TrustedHops,
    door: DoorSettings,
    listen: SocketAddr,
}

enum Source {
    Memory(PolicyFiles),
    Folder(PathBuf),
}

/// The issuer that the gateways under test trust.
pub(crate) fn issuer() -> &'static Arc<Issuer> {
    &ISSUER
}

/// A policy set of two roles, two device groups, two applications and three devices; see `tests/support/policy/`.
pub(crate) fn policy() -> PolicyFiles {
    let keys = serde_json::to_string(&issuer().key_set(TokenVersion::V1)).unwrap();
    let keys2 = serde_json::to_string(&issuer().key_set(TokenVersion::V2)).unwrap();
    let issuers = r#"
        [[issuer]]
        name      = "v1"
        issuer    = "https://issuer.example/{tid}/"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["https://api.securitycenter.microsoft.com"]
        keys      = "keys-v1.json"

        [[issuer]]
        name      = "v2"
        issuer    = "https://issuer.example/{tid}/v2.0"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["fc780465-2017-40d4-a0c5-307022471b92"]
        keys      = "keys-v2.json"
    "#;
    let mut files = PolicyFiles::default();
    for (name, text) in [
        ("issuers.toml", issuers),
        ("keys-v1.json", &keys),
        ("keys-v2.json", &keys2),
        ("operations.toml", include_str!("policy/operations.toml")),
        ("roles.toml", include_str!("policy/roles.toml")),
        ("device-groups.toml", include_str!("policy/device-groups.toml")),
        ("applications.toml", include_str!("policy/applications.toml")),
        ("limits.toml", include_str!("policy/limits.toml")),
        ("devices.csv", include_str!("policy/devices.csv")),
    ] {
        files.insert(SourceFile::new(name, text));
    }
    files
}

/// The same set with one file replaced; key files that no issuer names any more are left out.
pub(crate) fn policy_with(name: &str, text: &str) -> PolicyFiles {
    let mut files = policy();
    files.insert(SourceFile::new(name, text));
    without_idle_keys(files)
}

/// The set without the key files that its issuers do not name: such a file would be a mistake.
pub(crate) fn without_idle_keys(mut files: PolicyFiles) -> PolicyFiles {
    let issuers = files.get("issuers.toml").unwrap().text().to_owned();
    for name in ["keys-v1.json", "keys-v2.json"] {
        if !issuers.contains(name) {
            files.remove(name);
        }
    }
    files
}

/// The same set with some text of one file replaced; fails the test if the file does not say it.
pub(crate) fn rewritten(mut files: PolicyFiles, name: &str, from: &str, to: &str) -> PolicyFiles {
    let text = files.get(name).unwrap().text();
    assert!(text.contains(from), "{name} does not say {from:?}");
    let text = text.replace(from, to);
    files.insert(SourceFile::new(name, text));
    files
}

/// Writes a set into a folder.
pub(crate) fn write_policy(files: &PolicyFiles, folder: &std::path::Path) {
    for file in files.iter() {
        std::fs::write(folder.join(&**file.name()), file.text()).unwrap();
    }
}

/// The confined application, with every permission that its operations ask for.
pub(crate) fn playbooks() -> Caller {
    Caller::application(PLAYBOOKS).permissions([
        "Machine.CollectForensics",
        "Machine.Read.All",
        "Library.Manage",
    ])
}

/// An analyst who may collect, from every device but the executives'.
pub(crate) fn responder() -> Caller {
    Caller::user(UserId::from_u128(0xb1), "responder@test.example", PORTAL)
        .permissions(["Machine.CollectForensics", "Machine.Read"])
        .groups([RESPONDERS])
}

/// The application without bounds, with the permissions of every operation.
pub(crate) fn portal() -> Caller {
    Caller::application(PORTAL).permissions([
        "Machine.CollectForensics",
        "Machine.Read.All",
        "Library.Manage",
        "Ti.ReadWrite.All",
    ])
}

/// The value of `Authorization` for a caller.
pub(crate) fn bearer(caller: &Caller) -> String {
    format!("Bearer {}", token(caller))
}

/// A token of a caller, valid for an hour from now by the machine's clock, as the binary reads it.
pub(crate) fn token_of_today(caller: &Caller) -> String {
    let now = Clock::System.wall().unix_seconds();
    let caller = caller.clone().claim("iat", now).claim("nbf", now).claim("exp", now + 3_600);
    token(&caller)
}

/// A token of a caller, valid for an hour from the beginning of manual time.
pub(crate) fn token(caller: &Caller) -> String {
    issuer().token(caller)
}

// === impl Setup ===

impl Setup {
    /// The set of [`policy`] in memory, in front of this upstream, without an audit.
    pub(crate) fn new(upstream: SocketAddr) -> Self {
        Self {
            source: Source::Memory(policy()),
            upstream: UpstreamSettings {
                // The machine's time: no test's upstream takes as long, but those that set less.
                answer: Duration::from_secs(60),
                ..UpstreamSettings::at(UpstreamUrl::http(upstream))
            },
            tls: None,
            audit: None,
            state: None,
            audit_full: AuditFullMode::Refuse,
            public_url: None,
            threads: NonZeroUsize::MIN,
            trusted_hops: TrustedHops::default(),
            door: DoorSettings::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    pub(crate) fn policy(self, files: PolicyFiles) -> Self {
        Self { source: Source::Memory(files), ..self }
    }

    pub(crate) fn policy_folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { source: Source::Folder(folder.into()), ..self }
    }

    /// Callers are served over TLS.
    pub(crate) fn tls(self, tls: impl Into<TlsSettings>) -> Self {
        Self { tls: Some(tls.into()), ..self }
    }

    pub(crate) fn audit(self, file: impl Into<PathBuf>) -> Self {
        Self { audit: Some(file.into()), ..self }
    }

    /// What must survive it lies in this folder.
    pub(crate) fn state(self, folder: impl Into<PathBuf>) -> Self {
        Self { state: Some(folder.into()), ..self }
    }

    pub(crate) fn audit_full(self, audit_full: AuditFullMode) -> Self {
        Self { audit_full, ..self }
    }

    /// As `--public-url` says it.
    pub(crate) fn public_url(self, url: &str) -> Self {
        Self { public_url: Some(url.parse().unwrap()), ..self }
    }

    pub(crate) fn threads(self, threads: usize) -> Self {
        Self { threads: NonZeroUsize::new(threads).unwrap(), ..self }
    }

    /// Real time: how long the upstream may take.
    pub(crate) fn upstream_timeout(mut self, answer: Duration) -> Self {
        self.upstream.answer = answer;
        self
    }

    /// Where the upstream is, and how long it may take.
    pub(crate) fn upstream(mut self, change: impl FnOnce(&mut UpstreamSettings)) -> Self {
        change(&mut self.upstream);
        self
    }

    /// As `--trusted-hops` says it.
    pub(crate) fn trusted_hops(self, hops: &str) -> Self {
        Self { trusted_hops: hops.parse().unwrap(), ..self }
    }

    /// What clients may take.
    pub(crate) fn bounds(mut self, bounds: Bounds) -> Self {
        self.door.bounds = bounds;
        self
    }

    /// Whose connections begin with a PROXY header.
    pub(crate) fn proxies(mut self, networks: &[&str]) -> Self {
        self.door.proxies = networks.iter().map(|network| network.parse().unwrap()).collect();
        self
    }

    /// Where it listens.
    pub(crate) fn listen(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }

    /// How it stops, in real time.
    pub(crate) fn shutdown(mut self, delay: Duration, grace: Duration) -> Self {
        (self.door.shutdown_delay, self.door.shutdown_grace) = (delay, grace);
        self
    }

    /// Starts it on ports of its own, its clock at the beginning of manual time.
    pub(crate) fn start(self) -> TestGateway {
        let (clock, hand) = Clock::manual(BEGINNING);
        // Every process of rustls's users has to choose; the second choice is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = Settings {
            upstream: self.upstream,
            handover: None,
            trusted_hops: self.trusted_hops,
            listen: self.listen,
            admin: self.listen,
            tls: self.tls,
            audit: self.audit.map(AuditTarget::File),
            audit_full: self.audit_full,
            state: self.state,
            public_url: self.public_url,
            threads: self.threads,
            door: self.door,
        };
        let source = match self.source {
            Source::Memory(files) => PolicySource::Memory(files),
            Source::Folder(folder) => PolicySource::Folder(folder),
        };
        let server = Server::start(settings, source, clock.clone()).unwrap_or_else(|error| panic!("{error}"));
        TestGateway { server: Some(server), hand, clock }
    }
}

// === impl TestGateway ===

impl TestGateway {
    /// One in front of this upstream, with the set of [`policy`].
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        Setup::new(upstream).start()
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server().address
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> RawClient {
        RawClient::connect(self.address()).await
    }

    /// Asks a device's forensic package for, on a connection of its own.
    pub(crate) async fn collect(&self, caller: &Caller, device: &str) -> RawResponse {
        self.connect().await.collect(&token(caller), device, COMMENT).await
    }

    /// A GET with a token, on a connection of its own.
    pub(crate) async fn get(&self, caller: &Caller, path: &str) -> RawResponse {
        let authorization = format!("Bearer {}", token(caller));
        self.connect().await.request("GET", path, &[("Authorization", &authorization)], b"").await
    }

    /// A page of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> RawResponse {
        RawClient::connect(self.server().admin).await.request("GET", path, &[], b"").await
    }

    /// Stops it as SIGTERM would, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.stop_now();
    }

    fn stop_now(&mut self) {
        if let Some(server) = self.server.take() {
            // On a thread of its own: it waits for runtimes, which a test's own runtime would not allow.
            std::thread::spawn(move || server.stop()).join().unwrap();
        }
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.stop_now();
    }
}

// === impl RawClient ===

impl RawClient {
    /// A collection on a device, on this connection.
    pub(crate) async fn collect(&mut self, token: &str, device: &str, body: &str) -> RawResponse {
        let path = format!("/api/machines/{device}/collectInvestigationPackage");
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.request("POST", &path, &headers, body.as_bytes()).await
    }
}
