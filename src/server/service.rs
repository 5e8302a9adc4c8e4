//! The gateway's connections: accepted on a listening socket, bounded in number, served on threads of their own, and told
//! to go when the process stops.

mod connections;
mod workers;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::connections::{Connections, Seat};
use self::workers::{WorkerThreads, Workers};
use crate::proxy::{Door, Gateway, Socket};
use crate::server::handover::Relay;
use crate::server::tls::Certificates;
use crate::server::{StartError, proxied};
use crate::settings::Settings;
use crate::telemetry::metrics::RefusedConnection;
use crate::time::Clock;

/// A call that could not be connected is tried on this many addresses in all.
const CONNECT_ATTEMPTS: usize = 3;

/// After the system gave no connection, usually because all of the process's files are open: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at whether the requests in flight have ended.
const STEP: Duration = Duration::from_millis(20);

/// For connections without a request to go: a round trip around the earth to say so, and one to be gone.
const GOING: Duration = Duration::from_secs(1);

/// For the threads to let go of what they hold at the end.
const THREADS_END: Duration = Duration::from_secs(1);

/// The threads that serve, and the connections that they have.
#[derive(Debug)]
pub(super) struct Service {
    threads: WorkerThreads,
    closing: watch::Sender<bool>,
    /// Accepts; aborted, the listener is closed.
    accepting: AbortHandle,
    connections: Arc<Connections>,
}

// === impl Service ===

impl Service {
    /// Serves the gateway on a socket that is bound already, and for the process before this one, if there was one.
    ///
    /// # Errors
    /// If the system gives no thread, or does not take the socket.
    pub(super) fn start(
        gateway: Gateway,
        (listener, address): (TcpListener, SocketAddr),
        relay: Option<Relay>,
        settings: &Settings,
        certificates: Option<Arc<Certificates>>,
    ) -> Result<Self, StartError> {
        let in_flight = settings.door.bounds.in_flight.get() as usize;
        let conf = ServerConf {
            threads: settings.threads.get(),
            // Of each thread. None can use another's, so that together there are as many as calls may be in flight.
            upstream_keepalive_pool_size: in_flight.div_ceil(settings.threads.get()),
            max_retries: CONNECT_ATTEMPTS,
            ca_file: settings.upstream.ca.as_ref().map(|path| path.display().to_string()),
            ..ServerConf::default()
        };
        let (closing, is_closing) = watch::channel(false);
        let bounds = settings.door.bounds.clone();
        let connections = Connections::new(bounds.clone(), gateway.books.metrics.clone());
        let clock = gateway.line.clock.clone();
        let conf = Arc::new(conf);
        let door = || Door::new(gateway.clone(), &conf, bounds.clone(), is_closing.clone());
        let threads = WorkerThreads::start(settings.threads, door).map_err(StartError::Thread)?;
        let workers = threads.workers();
        let within = workers.first.enter();
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| StartError::Listen { address, error })?;
        drop(within);
        if let Some(relay) = relay {
            let relayed =
                Relayed { workers: workers.clone(), connections: connections.clone(), clock: clock.clone() };
            workers.first.spawn(relayed.run(relay));
        }
        let accepting = Accepting {
            listener,
            workers: workers.clone(),
            connections: connections.clone(),
            proxies: settings.door.proxies.clone(),
            certificates,
            clock,
        };
        let accepting = workers.first.spawn(accepting.run(is_closing));
        Ok(Self { threads, closing, accepting, connections })
    }

    /// Takes no further connection, except from the process before this one. HTTP/2 clients are told to go to another.
    pub(super) fn take_no_more(&self) {
        self.accepting.abort();
        self.threads.workers().leave();
    }

    /// Takes no further connection and no further request: idle connections are closed, HTTP/2 ones are told to go
    /// away. Done when the last has ended, or a moment after the last request has: a client that does not go by itself
    /// is not waited for.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        self.threads.workers().leave();
        let finished = async {
            while self.connections.metrics.requests_in_flight() > 0 {
                Clock::System.sleep(STEP).await;
            }
            Clock::System.sleep(GOING).await;
        };
        tokio::select! {
            biased;
            () = self.all_ended() => {}
            () = finished => {}
        }
    }

    /// Done when no connection is left: each has ended by itself.
    pub(super) async fn all_ended(&self) {
        self.connections.all_ended().await;
    }

    /// Ends the threads, and with them what is still being served.
    pub(super) fn end(self) {
        self.threads.end(THREADS_END);
    }
}

// === the listener ===

struct Accepting {
    listener: tokio::net::TcpListener,
    workers: Workers,
    connections: Arc<Connections>,
    proxies: Vec<IpNet>,
    certificates: Option<Arc<Certificates>>,
    clock: Clock,
}

impl Accepting {
    async fn run(self, mut closing: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = closing.wait_for(|closing| *closing) => return,
            };
            match accepted {
                Ok((stream, address)) => match self.seat(address.ip()) {
                    Ok(seat) => self.serve(stream, address, seat),
                    // Closed without a word: an answer would cost what the bound is to save.
                    Err(reason) => self.connections.metrics.refused_connection(reason),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    Clock::System.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place among the connections; for one of a balancer, that of its client is not known yet.
    fn seat(&self, address: IpAddr) -> Result<Seat, RefusedConnection> {
        let mut seat = self.connections.take()?;
        if !self.is_proxy(address) {
            seat.belong_to(address)?;
        }
        Ok(seat)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    fn serve(&self, stream: TcpStream, address: SocketAddr, mut seat: Seat) {
        let clock = self.clock.clone();
        let metrics = self.connections.metrics.clone();
        let tls = self.certificates.as_ref().map(|certificates| certificates.acceptor());
        let proxied = self.is_proxy(address.ip());
        // It is to wake the thread that serves it, and no other.
        let stream = stream.into_std();
        let worker = self.workers.idlest();
        seat.sit(worker.take());
        let door = worker.door.clone();
        worker.spawn(async move {
            let mut stream = match stream.and_then(TcpStream::from_std) {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!(%address, %error, "a connection cannot be served"),
            };
            // An answer is written as a whole; waiting for more would only delay it. A socket that is closed already
            // says so when it is read.
            let _ = stream.set_nodelay(true);
            let header = door.bounds().header;
            let mut address = address;
            if proxied {
                let client = match clock.timeout(header, proxied::client(&mut stream)).await {
                    Ok(Ok(client)) => client.unwrap_or(address),
                    Ok(Err(error)) => {
                        metrics.refused_connection(RefusedConnection::Proxy);
                        return tracing::warn!(%address, %error, "no PROXY header from a balancer");
                    }
                    // Balancers try whether a connection is taken, and send nothing.
                    Err(_) => return tracing::debug!(%address, "no PROXY header in time"),
                };
                address = client;
                if let Err(reason) = seat.belong_to(address.ip()) {
                    return metrics.refused_connection(reason);
                }
            }
            let socket = match tls {
                None => Socket::Plain(stream),
                Some(tls) => match clock.timeout(header, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Socket::Tls(Box::new(stream)),
                    Ok(Err(error)) => return tracing::debug!(%address, %error, "no TLS handshake"),
                    Err(_) => return tracing::debug!(%address, "no TLS handshake in time"),
                },
            };
            door.serve(socket, address).await;
        });
    }
}

// === the process before this one ===

struct Relayed {
    workers: Workers,
    connections: Arc<Connections>,
    clock: Clock,
}

impl Relayed {
    /// Serves one call for each connection. None is refused for its number: the other process relays no more at
    /// once than may be in flight, beside those that it had let in before.
    async fn run(self, relay: Relay) {
        let listener = match relay.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "nothing is taken from the process before this one"),
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a call from the process before this one");
                    Clock::System.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: UnixStream) {
        let (stream, clock) = (stream.into_std(), self.clock.clone());
        let worker = self.workers.idlest();
        let mut seat = self.connections.take_one_more();
        seat.sit(worker.take());
        let door = worker.door.clone();
        worker.spawn(async move {
            let _seat = seat;
            let begun = async {
                let mut stream = UnixStream::from_std(stream?)?;
                let client = clock.timeout(door.bounds().header, proxied::client(&mut stream)).await;
                io::Result::Ok((stream, client.ok().and_then(Result::ok).flatten()))
            };
            match begun.await {
                Ok((stream, Some(client))) => door.serve(Socket::Relayed(stream), client).await,
                _ => tracing::warn!("a call from the process before this one did not begin"),
            }
        });
    }
}
