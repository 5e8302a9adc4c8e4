//! The composition root: settings become a snapshot, stores, background work and Pingora's service.

mod announce;
mod chores;
mod error;
mod files;
mod handover;
mod keys;
mod memory;
mod proxied;
mod service;
mod signals;
mod tls;
mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::admin::Admin;
use crate::admit::Line;
use crate::journal::StateFolder;
use crate::limit::FailedLogins;
use crate::proxy::{Books, Gateway, Load, PublicUrl, Succession};
use crate::reload::{PolicySource, PolicyStore};
use crate::settings::{DoorSettings, Settings};
use crate::telemetry::audit::Audit;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;
use crate::token::KeyRefresher;

use announce::Announcer;
pub use error::StartError;
pub use files::TooFewFiles;
use handover::{Handover, Legacy, Listeners, Telling};
use memory::{Estate, Inherited, Memory};
use service::Service;
use signals::Asked;
pub use signals::Signals;
use tls::Certificates;

/// A gateway that runs: its listeners accept, its background work is under way. It stops when told to.
#[derive(Debug)]
pub struct Server {
    /// Where callers connect.
    pub address: SocketAddr,
    /// Where the operator looks.
    pub admin: SocketAddr,
    /// The policy in force.
    pub policies: Arc<PolicyStore>,
    /// The windows, the memory of actions, and the clock.
    pub line: Arc<Line>,
    /// What Prometheus sees.
    pub metrics: Metrics,
    audit: Option<Audit>,
    stopping: Arc<AtomicBool>,
    door: DoorSettings,
    service: Service,
    admin_listener: AbortHandle,
    handover: Option<Arc<Handover>>,
    estate: Estate,
    certificates: Option<Arc<Certificates>>,
    /// Turns to true when the process before this one is gone; none if there was none.
    before: Option<watch::Receiver<bool>>,
    /// For everything that is not a request.
    background: Runtime,
}

/// Why a gateway ends.
#[derive(Debug)]
enum End {
    /// It was told to.
    Stopped,
    /// Another process decides in its place, and is told how the last calls end.
    Relieved(Telling),
}

impl Server {
    /// Starts a gateway. Everything that can be wrong with its settings is found before it returns.
    ///
    /// # Errors
    /// What is wrong, and with which file or address. Nothing keeps running then.
    pub fn start(mut settings: Settings, source: PolicySource, clock: Clock) -> Result<Self, StartError> {
        files::fit(&mut settings.door.bounds, settings.threads)?;
        // Pingora would retry for 30 s and then live on without a listener: bind here, and hand the socket over.
        let (predecessor, Listeners { gateway: listener, admin: admin_listener }) =
            handover::listeners(&settings)?;
        let handover = settings.handover.as_ref();
        let handover = handover.map(|to| Handover::prepare(&to.folder, &listener, &admin_listener));
        let handover = handover.transpose()?.map(Arc::new);
        let address = listener.local_addr().unwrap_or(settings.listen);
        let admin_address = admin_listener.local_addr().unwrap_or(settings.admin);
        let certificates = settings.tls.clone().map(Certificates::open).transpose()?.map(Arc::new);
        let upstream = Arc::new(upstream::resolve(&settings.upstream)?);
        let policies = Arc::new(PolicyStore::open(source, clock.clone()).map_err(StartError::Policy)?);
        let metrics = Metrics::new();
        let audit = settings
            .audit
            .clone()
            .map(|target| Audit::start(target, settings.audit_full, metrics.clone(), clock.clone()))
            .transpose()?;
        let max_keys = policies.load().quotas.max_keys();
        let (memory, state, legacy) = match (predecessor, settings.state.as_deref()) {
            (Some(predecessor), _) => {
                keys::fetch(&policies.load().verifier, &clock)?;
                let (inherited, state, legacy) =
                    predecessor.relieve(|folder| Inherited::read(folder, max_keys, &clock))?;
                let memory = if state.is_some() { inherited.start()? } else { inherited.in_memory() };
                (memory, state, Some(legacy))
            }
            (None, Some(folder)) => {
                let folder = StateFolder::open(folder)?;
                (Inherited::read(&folder, max_keys, &clock)?.start()?, Some(folder), None)
            }
            (None, None) => (Memory::empty(), None, None),
        };
        if state.is_none() && policies.load().quotas.durable().is_some() {
            tracing::warn!("limits.toml says `durable`, and there is no `--state` to write to");
        }
        let Memory { limiter, actions, kept } = memory;
        let line = Arc::new(Line { limiter, logins: FailedLogins::new(), actions, clock: clock.clone() });
        let succession = Arc::new(Succession::default());
        let estate =
            Estate { line: line.clone(), state: state.map(Arc::new), succession: succession.clone() };
        let (before, relay) = match legacy.map(Legacy::into_parts) {
            Some((stream, relay)) => {
                let line = line.clone();
                let take = move |name: &str, record: &[u8]| Estate::receive(&line, name, record);
                (Some(Legacy::listen(stream, take).map_err(StartError::Thread)?), Some(relay))
            }
            None => (None, None),
        };
        let stopping = Arc::new(AtomicBool::new(false));

        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let admin = Admin {
            policies: policies.clone(),
            line: line.clone(),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
        };
        let announcer = Announcer {
            policies: policies.clone(),
            metrics: metrics.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        announcer.begin(&kept);
        let admin_listener = background.spawn(admin.serve(admin_listener)).abort_handle();
        background.spawn(announcer.clone().keep_telling_of_ends());
        background.spawn(policies.clone().watch(move |reload| announcer.announce(reload)));
        background.spawn(upstream.clone().keep_resolved(clock.clone()));
        background.spawn(upstream.clone().keep_probed(clock.clone()));
        background.spawn(chores::sweep(line.clone()));
        background.spawn(chores::anchor(line.clone()));
        background.spawn(chores::forget_tokens(policies.clone(), clock.clone()));
        if let Some(certificates) = &certificates {
            background.spawn(certificates.clone().watch(clock.clone()));
        }
        let verifier = policies.clone();
        background.spawn(KeyRefresher::new(move || verifier.load().verifier.clone(), clock).run());

        let gateway = Gateway {
            line: line.clone(),
            policies: policies.clone(),
            trusted_hops: settings.trusted_hops,
            upstream,
            public: settings.public_url.as_ref().map(|url| PublicUrl::new(&url.to_string())),
            books: Arc::new(Books { metrics: metrics.clone(), audit: audit.clone() }),
            bounds: settings.door.bounds.clone(),
            load: Arc::new(Load::default()),
            elsewhere: Arc::new(Load::default()),
            stopping: stopping.clone(),
            succession,
        };
        let service = Service::start(gateway, (listener, address), relay, &settings, certificates.clone())?;
        Ok(Self {
            address,
            admin: admin_address,
            policies,
            line,
            metrics,
            audit,
            stopping,
            door: settings.door,
            service,
            admin_listener,
            handover,
            estate,
            certificates,
            before,
            background,
        })
    }

    /// Puts the handlers for [`run`](Self::run) in place. Before anyone is told that the gateway runs: whoever is
    /// told may send a signal at once.
    ///
    /// # Errors
    /// If the system gives no signal handlers.
    pub fn signals(&self) -> io::Result<Signals> {
        let _within = self.background.enter();
        Signals::install()
    }

    /// Runs until SIGTERM or SIGINT, then stops; a second one of them ends what is still waited for. SIGHUP reads the
    /// policy and the certificates again and reopens the audit file. SIGQUIT hands everything to the process that waits
    /// for it, and then stops; if none waits, or it does not come to serve, this one goes on. The others are obeyed
    /// meanwhile: a stop calls off what is not done.
    pub fn run(self, mut signals: Signals) {
        let end = self.background.block_on(async {
            loop {
                match signals.next().await {
                    Asked::Stop => break End::Stopped,
                    Asked::Reload => self.reload(),
                    Asked::HandOver => {
                        if let Some(end) = self.hand_over(&mut signals).await {
                            break end;
                        }
                    }
                }
            }
        });
        self.stop_unless(end, async move { while signals.next().await != Asked::Stop {} });
    }

    fn reload(&self) {
        self.policies.ask();
        if let Some(certificates) = &self.certificates {
            certificates.ask();
        }
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// How this process ends then, if it does.
    async fn hand_over(&self, signals: &mut Signals) -> Option<End> {
        let Some(handover) = self.handover.clone() else {
            tracing::error!("no process took over: it needs `--handover`");
            return None;
        };
        let (giving, estate) = (handover.clone(), self.estate.clone());
        let mut given = self.background.spawn_blocking(move || giving.give(&estate));
        let is_stopping = || self.stopping.load(Ordering::Acquire);
        loop {
            tokio::select! {
                biased;
                given = &mut given => match given.map_err(io::Error::other).flatten() {
                    Ok(telling) => return Some(End::Relieved(telling)),
                    Err(_) if is_stopping() => return Some(End::Stopped),
                    Err(error) => {
                        tracing::error!(%error, "no process took over: this one goes on");
                        return None;
                    }
                },
                // A second one to stop is for what follows.
                asked = signals.next(), if !is_stopping() => match asked {
                    Asked::Stop => {
                        self.stopping.store(true, Ordering::Release);
                        handover.call_off();
                    }
                    Asked::Reload => self.reload(),
                    // That is what is being done.
                    Asked::HandOver => {}
                },
            }
        }
    }

    /// Readiness fails; after the delay that was set the listeners close, idle connections are told to go, and requests
    /// in flight finish within the grace that was set; the audit is written out.
    pub fn stop(self) {
        self.stop_unless(End::Stopped, std::future::pending());
    }

    /// The same, but nothing is waited for any more once `hurried` is done.
    fn stop_unless(self, end: End, hurried: impl Future<Output = ()>) {
        self.stopping.store(true, Ordering::Release);
        tracing::info!("shutting down");
        let clock = Clock::System;
        let orderly = async {
            match &end {
                End::Stopped => {
                    let delay = self.door.shutdown_delay;
                    self.line.limiter.end(self.line.clock.steady() + delay + self.door.shutdown_grace);
                    clock.sleep(delay).await;
                }
                End::Relieved(_) => {
                    self.admin_listener.abort();
                    // A connection that closes just as its client calls again would fail that call: the next answer on
                    // each says so first.
                    let _ = clock.timeout(self.door.shutdown_grace, self.drain()).await;
                }
            }
            clock.timeout(self.door.shutdown_grace, self.service.close()).await
        };
        self.background.block_on(async {
            tokio::select! {
                finished = orderly => if finished.is_err() {
                    tracing::warn!(requests = self.metrics.requests_in_flight(), "the grace is over");
                },
                () = hurried => tracing::warn!(requests = self.metrics.requests_in_flight(), "told to hurry"),
            }
        });
        self.service.end();
        self.background.shutdown_background();
        self.line.actions.close();
        self.line.limiter.open_actions().close();
        self.line.limiter.close();
        if let End::Relieved(telling) = end {
            telling.finish();
        }
        if let Some(audit) = &self.audit {
            audit.close();
        }
    }
}

impl Server {
    /// Takes no further connection. Done when nobody calls here any more, the process before this one included.
    async fn drain(&self) {
        self.service.take_no_more();
        if let Some(mut gone) = self.before.clone() {
            let _ = gone.wait_for(|gone| *gone).await;
        }
        self.service.all_ended().await;
    }
}

// === what start needs ===

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| StartError::Listen { address, error })
}
