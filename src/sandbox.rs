//! The stand-ins: what Defender's API and Entra's issuer do, as far as their clients can see it, on this machine alone.
//!
//! [`Sandbox`] puts the gateway between them, on the shipped policy set with its own issuers, roles, device groups,
//! applications and devices laid over it in memory. Nothing here takes part in a decision.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::id::{ApplicationId, RequestId};
use crate::proxy::TrustedHops;
use crate::reload::PolicySource;
use crate::sandbox::api::{Api, ApiSettings};
use crate::sandbox::issuer::{Issuer, SignerError};
use crate::sandbox::listen::{LocalTls, LocalTlsError};
use crate::sandbox::world::{Call, TENANT, Tokens};
use crate::server::{Server, Signals, StartError};
use crate::settings::{DoorSettings, Settings, UpstreamSettings, UpstreamUrl, one_a_core};
use crate::source::PolicyFiles;
use crate::telemetry::audit::{AuditFullMode, AuditTarget};
use crate::time::Clock;
use crate::token;

pub mod api;
pub mod issuer;
pub mod listen;
pub mod shipped;
pub mod world;

/// What can be chosen about a sandbox.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Where callers connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
    /// How long a collection runs on a device.
    pub running_for: Duration,
}

/// A gateway between two stand-ins, in this process.
#[derive(Debug)]
pub struct Sandbox {
    /// The gateway.
    pub server: Server,
    /// The stand-in for the API.
    pub api: SocketAddr,
    /// The stand-in for the issuer, over http.
    pub issuer: SocketAddr,
    /// The issuer's address over https, as it names itself.
    pub issuer_url: String,
    /// A token of each caller.
    pub tokens: Tokens,
    /// The CA certificate of the issuer's https, the audit trail: made for this sandbox, and removed with it.
    folder: Folder,
    stand_ins: Runtime,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The gateway did not.
    #[error(transparent)]
    Gateway(#[from] StartError),
    /// The issuer has no key.
    #[error(transparent)]
    Issuer(#[from] SignerError),
    /// The issuer has no certificate.
    #[error(transparent)]
    Tls(#[from] LocalTlsError),
    /// The system gives no socket, thread or folder.
    #[error("cannot start the stand-ins: {0}")]
    System(#[from] io::Error),
}

// === impl Sandbox ===

impl Sandbox {
    /// Starts the stand-ins and the gateway; when it returns, the calls work.
    ///
    /// # Errors
    /// What could not be started, in one line.
    pub fn start(settings: &SandboxSettings, clock: Clock) -> Result<Self, SandboxError> {
        let folder = Folder::create()?;
        let stand_ins = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("stand-ins")
            .enable_all()
            .build()?;
        let (api_listener, api_address) = loopback()?;
        let (http_listener, issuer_address) = loopback()?;
        let (https_listener, https_address) = loopback()?;

        let tls = LocalTls::generate()?;
        fs::write(folder.ca(), tls.ca_pem())?;
        let issuer_url = format!("https://localhost:{}", https_address.port());
        let issuer = Issuer::new(&issuer_url, TENANT, world::registrations(), clock.clone())?;
        let discovery = format!("http://{issuer_address}");
        let api = Api::new(
            ApiSettings { running_for: settings.running_for, ..world::api_settings() },
            clock.clone(),
        );
        stand_ins.spawn(served("API", listen::serve(api_listener, api.router())));
        stand_ins.spawn(served("issuer", listen::serve(http_listener, issuer.router(&discovery))));
        let https = issuer.router(&issuer_url);
        stand_ins
            .spawn(async move { served("issuer", listen::serve_tls(https_listener, https, &tls)).await });

        let server = Server::start(
            Settings {
                upstream: UpstreamSettings::at(UpstreamUrl::http(api_address)),
                listen: settings.listen,
                admin: settings.admin,
                tls: None,
                handover: None,
                trusted_hops: TrustedHops::default(),
                audit: Some(AuditTarget::File(folder.audit())),
                state: None,
                public_url: None,
                audit_full: AuditFullMode::Refuse,
                threads: one_a_core(),
                door: DoorSettings::default(),
            },
            PolicySource::Memory(policy(&issuer, &discovery)),
            clock.clone(),
        )?;
        let verifier = server.policies.load().verifier.clone();
        stand_ins.block_on(token::refresh_now(&verifier, &clock));
        for (action, device) in world::seeded_actions() {
            server.line.actions.record(action, device);
        }
        let tokens = Tokens::issue(&issuer);
        Ok(Self { server, api: api_address, issuer: issuer_address, issuer_url, tokens, folder, stand_ins })
    }

    /// The calls to paste.
    pub fn calls(&self) -> Vec<Call> {
        world::calls(self.server.address, &self.tokens)
    }

    /// The CA certificate to trust for [`issuer_url`](Self::issuer_url), in PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.ca()
    }

    /// The audit trail.
    pub fn audit(&self) -> PathBuf {
        self.folder.audit()
    }

    /// The application that [`world::PLAYBOOKS_SECRET`] belongs to.
    pub fn client(&self) -> ApplicationId {
        world::PLAYBOOKS
    }

    /// Runs until SIGTERM or SIGINT; then its folder is removed.
    pub fn run(self, signals: Signals) {
        self.server.run(signals);
        self.stand_ins.shutdown_background();
    }

    /// Stops as [`run`](Self::run) does at its end.
    pub fn stop(self) {
        self.server.stop();
        self.stand_ins.shutdown_background();
    }
}

/// The shipped set with the sandbox's own files over it.
fn policy(issuer: &Arc<Issuer>, discovery: &str) -> PolicyFiles {
    let mut files = shipped::files();
    world::overlay(issuer, discovery).into_iter().for_each(|file| files.insert(file));
    files
}

fn loopback() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn served(what: &str, serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "the stand-in for the {what} stopped");
    }
}

/// A folder that only we can read, for as long as the sandbox runs.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tollgate-sandbox-{}", RequestId::random()));
        // Fails if it exists: nobody can have prepared it.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn ca(&self) -> PathBuf {
        self.0.join("issuer-ca.pem")
    }

    fn audit(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "cannot remove the sandbox's folder");
        }
    }
}
