//! The operators' connections, bounded in number and in time: whoever reaches the listener can't keep others from it.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::Admin;
use crate::time::Clock;

/// Connections at once: a few operators, Prometheus and a balancer's probe have one each. If there are more, the one that
/// has been open longest is closed to make room, so that a page is shown whoever holds the others.
const MAX_CONNECTIONS: usize = 32;

/// For a request's header to arrive, and for a connection to be open between two: a scrape in the next minute opens
/// another.
const HEADER: Duration = Duration::from_secs(10);

/// 16 KiB of a request: no page takes a body, and no client of these pages sends a token.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// After the system gave no connection, usually because all of the process's files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of the listener its clients may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    connections: usize,
    header: Duration,
}

impl Admin {
    /// Serves the pages on a socket that is bound already, until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let bounds = Bounds { connections: MAX_CONNECTIONS, header: HEADER };
        if let Err(error) = serve(listener, self.router(), bounds).await {
            tracing::error!(%error, "the admin listener stopped");
        }
    }
}

async fn serve(listener: TcpListener, router: Router, bounds: Bounds) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // In the order in which they came.
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= bounds.connections
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(connection(stream, router.clone(), bounds)).abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of an operator");
                Clock::System.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, bounds: Bounds) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(MAX_REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of an operator ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SCRAPE: &[u8] = b"GET /page HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";

    fn start(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new().route("/page", get(async || "shown")), bounds));
        address
    }

    /// A connection on which this was sent.
    async fn sent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// All that comes until the other side closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        // A reset is an end too.
        let _ = Clock::System.timeout(Duration::from_secs(10), read).await.expect("it stays open");
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn one_connection_more_than_there_may_be_takes_the_place_of_the_oldest() {
        let address = start(Bounds { connections: 3, header: Duration::from_secs(3_600) });
        let first = sent(address, b"").await;
        let mut others = Vec::new();
        for silent in [&b""[..], b"GET /pa", b"GET /page HTTP/1.1\r\n", b""] {
            others.push(sent(address, silent).await);
        }
        assert!(rest(sent(address, SCRAPE).await).await.ends_with("shown"));
        assert_eq!(rest(first).await, "");
        // The newest of them is still there.
        let mut last = others.pop().unwrap();
        last.write_all(SCRAPE).await.unwrap();
        assert!(rest(last).await.ends_with("shown"));
    }

    #[tokio::test]
    async fn a_header_that_does_not_come_in_time_ends_its_connection_also_between_two_requests() {
        let address = start(Bounds { connections: 8, header: Duration::from_millis(200) });
        let kept = b"GET /page HTTP/1.1\r\nHost: admin\r\n\r\n";
        for (before, shown) in [(&b""[..], ""), (b"GET /page HTTP/1.1\r\nHost:", ""), (kept, "shown")] {
            let answer = rest(sent(address, before).await).await;
            assert!(answer.ends_with(shown), "{answer}");
        }
    }
}
