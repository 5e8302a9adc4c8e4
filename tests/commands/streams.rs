//! What is large streams: the process does not keep it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tollgate::time::Clock;

use super::{Serving, policy_folder};
use crate::support::gateway::{portal, token_of_today};
use crate::support::within_deadline;

/// Of the answer's body, in bytes.
const LENGTH: usize = 200 << 20;

/// Of it, what may be on its way through the process: a buffer or two, and what the allocator does not give back.
const MOST_KEPT: u64 = 24 << 10;

const PIECE: usize = 1 << 18;

/// An API whose one answer is that long.
struct LargeUpstream {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl LargeUpstream {
    async fn start(framing: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::<AtomicUsize>::default();
        let mut server = JoinSet::new();
        let count = sent.clone();
        server.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0);
            }
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
            let mut piece = vec![b'x'; PIECE];
            if framing.starts_with("Transfer") {
                piece = [format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
            }
            for _ in 0..LENGTH / PIECE {
                stream.write_all(&piece).await.unwrap();
                count.fetch_add(PIECE, Ordering::SeqCst);
            }
            if framing.starts_with("Transfer") {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            std::future::pending().await
        });
        Self { address, sent, _server: server }
    }

    /// Waits until it can send no more for now; how much it has sent.
    async fn stalled(&self) -> usize {
        within_deadline("a client that reads nothing stops the upstream", async {
            let mut before = 0;
            loop {
                Clock::System.sleep(Duration::from_millis(100)).await;
                let now = self.sent.load(Ordering::SeqCst);
                if now > 0 && now == before {
                    return now;
                }
                before = now;
            }
        })
        .await
    }
}

#[tokio::test]
async fn an_answer_of_200_megabytes_streams_through_a_process_that_does_not_grow() {
    for framing in ["Content-Length: 209715200", "Transfer-Encoding: chunked"] {
        let (folder, upstream) = (policy_folder(), LargeUpstream::start(framing).await);
        let serving = Serving::start(folder.path(), upstream.address, &[]).await;
        let before = serving.process.peak();
        let mut client = TcpStream::connect(serving.gateway).await.unwrap();
        let request = format!(
            "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            token_of_today(&portal())
        );
        client.write_all(request.as_bytes()).await.unwrap();
        // A client that does not read holds up the upstream, and fills what the system keeps and no more.
        let stalled = upstream.stalled().await;
        assert!(
            stalled < LENGTH / 2,
            "{stalled} bytes were taken from the upstream for a client that reads none"
        );
        let mut bytes = vec![0; PIECE];
        let mut read = 0;
        loop {
            match within_deadline("the answer", client.read(&mut bytes)).await.unwrap() {
                0 => break,
                more => read += more,
            }
        }
        assert!(read > LENGTH, "{read} bytes");
        let grown = serving.process.peak() - before;
        assert!(grown < MOST_KEPT, "{grown} KiB more for {framing}");
    }
}
