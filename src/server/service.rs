//! The gateway as a Pingora service: on our own listening socket, stopped by our own signal.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{HttpProxy, http_proxy_service_with_name};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening;
use tokio::sync::Notify;

use crate::proxy::Gateway;
use crate::server::StartError;
use crate::settings::Settings;

/// Connections to the upstream that are kept for reuse, a thread: as many calls as are in flight at once in the
/// busiest tenant.
const UPSTREAM_POOL: usize = 1_024;

/// A call that could not be connected is tried on this many addresses in all.
const CONNECT_ATTEMPTS: usize = 3;

/// Runs the gateway on threads of Pingora's, on a socket that is bound already, until `stop` is notified.
///
/// # Errors
/// If the certificate can't be used, or the system gives no thread.
pub(super) fn run(
    gateway: Gateway,
    listener: TcpListener,
    address: SocketAddr,
    settings: &Settings,
    stop: Arc<Notify>,
) -> Result<JoinHandle<()>, StartError> {
    let conf = ServerConf {
        threads: settings.threads.get(),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: CONNECT_ATTEMPTS,
        ..ServerConf::default()
    };
    let mut server = pingora::server::Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service_with_name(&server.configuration, gateway, "gateway");
    match &settings.tls {
        None => proxy.add_tcp(&address.to_string()),
        Some(tls) => {
            let (cert, key) = (tls.cert.display().to_string(), tls.key.display().to_string());
            let mut tls_settings = TlsSettings::intermediate(&cert, &key)
                .map_err(|error| StartError::Tls { path: tls.cert.clone(), error: error.to_string() })?;
            tls_settings.enable_h2();
            proxy.add_tls_with_settings(&address.to_string(), None, tls_settings);
        }
    }
    server.add_service(Adopting { proxy, listener: Some((address, listener)) });
    std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(move || server.run(RunArgs { shutdown_signal: Box::new(StopSignal(stop)) }))
        .map_err(StartError::Thread)
}

/// The proxy service, on a socket that is listening already.
struct Adopting {
    proxy: listening::Service<HttpProxy<Gateway>>,
    listener: Option<(SocketAddr, TcpListener)>,
}

#[async_trait]
impl Service for Adopting {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let (Some(fds), Some((address, listener))) = (&fds, self.listener.take()) {
            // Pingora takes the socket of its address from this table, as it does in an upgrade.
            fds.lock().add(address.to_string(), listener.into_raw_fd());
        }
        Service::start_service(&mut self.proxy, fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        Service::name(&self.proxy)
    }

    fn threads(&self) -> Option<usize> {
        Service::threads(&self.proxy)
    }
}

/// Stops Pingora when we say so: its own handlers close listeners before readiness has failed.
struct StopSignal(Arc<Notify>);

#[async_trait]
impl ShutdownSignalWatch for StopSignal {
    async fn recv(&self) -> ShutdownSignal {
        self.0.notified().await;
        ShutdownSignal::FastShutdown
    }
}
