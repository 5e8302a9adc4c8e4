//! An API that records every byte it gets and answers as it is told.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tollgate::time::{Clock, Steady};

use crate::support::wire::{Header, Wire, one};
use crate::support::{own_address, within_deadline};

/// A server on a port of its own on the loopback interface, for as long as it lives.
pub(crate) struct RecordingUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Aborts what it runs when it is dropped.
    _server: JoinSet<()>,
}

struct Shared {
    clock: Clock,
    script: Mutex<Script>,
    requests: Mutex<Vec<RecordedRequest>>,
    /// When each of them was read.
    arrivals: Mutex<Vec<Steady>>,
    /// Told of each recorded request.
    recorded: Notify,
    connections: AtomicUsize,
}

/// What is answered: first what was queued, once each, then the same for ever.
struct Script {
    next: VecDeque<Answer>,
    always: Answer,
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    /// The request target, byte for byte.
    pub(crate) path: String,
    /// In their order, names in the case they came in.
    pub(crate) headers: Vec<Header>,
    /// The body, without a chunked coding's frames.
    pub(crate) body: Vec<u8>,
    /// All of it as it came over the wire.
    pub(crate) raw: Vec<u8>,
    /// Which connection it came on, counted from 1.
    pub(crate) connection: usize,
}

/// What the upstream does with a request once it is read.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    delay: Duration,
    ending: Ending,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection stays open for the next request.
    KeepAlive,
    /// The connection is closed after the answer, without `Connection: close` before.
    CloseAfter,
    /// The connection is closed once the request is read, without an answer.
    CloseBefore,
    /// The connection is closed after the header and half of the body.
    CloseWithin,
    /// Nothing ever comes, and the connection stays open.
    Never,
}

// === impl RecordingUpstream ===

/// An address of this machine at which nobody listens, nor will, unless the test does.
pub(crate) fn nobody() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    own_address(NEXT.fetch_add(1, Ordering::SeqCst))
}

impl RecordingUpstream {
    /// Starts one that answers everything with `answer`; delays are waited for on `clock`.
    pub(crate) fn start(answer: Answer, clock: Clock) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer, clock)
    }

    /// The same where a gateway has looked for it in vain.
    pub(crate) fn start_at(address: SocketAddr, answer: Answer, clock: Clock) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let shared = Arc::new(Shared {
            clock,
            script: Mutex::new(Script { next: VecDeque::new(), always: answer }),
            requests: Mutex::default(),
            arrivals: Mutex::default(),
            recorded: Notify::new(),
            connections: AtomicUsize::new(0),
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, shared.clone()));
        Self { address, shared, _server: server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queues an answer for one request, before what is always answered.
    pub(crate) fn answer_next(&self, answer: Answer) {
        self.shared.script.lock().next.push_back(answer);
    }

    /// Answers everything with this from now on.
    pub(crate) fn answer_always(&self, answer: Answer) {
        self.shared.script.lock().always = answer;
    }

    /// Everything recorded so far.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().clone()
    }

    /// When each request was read, those that were taken included.
    pub(crate) fn arrivals(&self) -> Vec<Steady> {
        self.shared.arrivals.lock().clone()
    }

    /// Everything recorded since the last call, which is then forgotten.
    pub(crate) fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut *self.shared.requests.lock())
    }

    /// Waits until `count` requests have been recorded, and returns them; fails the test if there are more.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<RecordedRequest> {
        let recorded = async {
            loop {
                let notified = self.shared.recorded.notified();
                tokio::pin!(notified);
                // Registered before the look, so that a request in between is not missed.
                notified.as_mut().enable();
                let requests = self.requests();
                if requests.len() >= count {
                    return requests;
                }
                notified.await;
            }
        };
        let requests = within_deadline("a request at the upstream", recorded).await;
        assert_eq!(requests.len(), count, "{requests:?}");
        requests
    }

    /// How many connections were ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        connections.spawn(serve(stream, number, shared.clone()));
    }
}

/// Serves one connection until either side closes it.
async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream);
    while let Some(request) = RecordedRequest::read(&mut wire, connection).await {
        let Answer { head, body, delay, ending } = shared.script.lock().take();
        let body = if request.method == "HEAD" { &[] } else { body.as_slice() };
        // The delay begins before the request is shown: whoever waited for it may move the clock at once.
        tokio::join!(biased; shared.clock.sleep(delay), async {
            shared.arrivals.lock().push(shared.clock.steady());
            shared.requests.lock().push(request);
            shared.recorded.notify_waiters();
        });
        let body = match ending {
            Ending::KeepAlive | Ending::CloseAfter => body,
            Ending::CloseWithin => &body[..body.len() / 2],
            Ending::CloseBefore => return,
            Ending::Never => return std::future::pending().await,
        };
        // The gateway may have given up: that is its right.
        if wire.send(&[head.as_slice(), body].concat()).await.is_err() || ending != Ending::KeepAlive {
            return;
        }
    }
}

// === impl RecordedRequest ===

impl RecordedRequest {
    /// The one value of a header, in any case; none if it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    /// Reads one; none if the connection ends before it is whole. It may take as long as the connection idles.
    async fn read(wire: &mut Wire, connection: usize) -> Option<Self> {
        let (first, headers) = wire.take_head().await?;
        let words: Vec<_> = first.split(' ').collect();
        let [method, path, "HTTP/1.1"] = words.as_slice() else {
            panic!("expected `method path HTTP/1.1`, got {first:?}")
        };
        let body = match (one(&headers, "content-length"), one(&headers, "transfer-encoding")) {
            (Some(length), None) => wire.take(length.parse().expect(length)).await?,
            (None, Some("chunked")) => wire.take_chunks().await?,
            (None, None) => Vec::new(),
            both => panic!("expected one length, got {both:?} in {headers:?}"),
        };
        let (method, path) = ((*method).to_owned(), (*path).to_owned());
        Some(Self { method, path, headers, body, raw: wire.taken(), connection })
    }
}

// === impl Script ===

impl Script {
    fn take(&mut self) -> Answer {
        self.next.pop_front().unwrap_or_else(|| self.always.clone())
    }
}

// === impl Answer ===

impl Answer {
    /// This status and body, at once, with its `Content-Length`; the connection stays open.
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n\r\n", body.len());
        Self { body, ..Self::raw(head) }
    }

    /// A JSON body with its type.
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).header("Content-Type", "application/json")
    }

    /// These bytes instead of a well-formed answer.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { head: bytes.into(), body: Vec::new(), delay: Duration::ZERO, ending: Ending::KeepAlive }
    }

    /// With one more header, after those that it has.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let end = self.head.len() - b"\r\n".len();
        self.head.splice(end..end, format!("{name}: {value}\r\n").into_bytes());
        self
    }

    /// Waits this long on the upstream's clock before the answer.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}
