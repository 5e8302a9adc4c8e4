//! An upstream that takes HTTP/2: what it is offered, what it gets to see, and what its failures come to.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tollgate::sandbox::issuer::Caller;
use tollgate::settings::{UpstreamUrl, Versions};

use super::*;
use crate::support::gateway::PORTAL;
use crate::support::tls::LocalCertificate;

const LIST: &str = "/api/machines";
const PAGE: &str = r#"{"value":[],"@odata.nextLink":"https://api.example/api/machines?$skip=1"}"#;

/// An API over TLS that speaks HTTP/2 if it is offered.
pub(super) struct SecureUpstream {
    files: LocalCertificate,
    url: UpstreamUrl,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// What the next streams come to; after these, an empty 200.
    next: Mutex<VecDeque<Then>>,
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    connection: usize,
    server_name: Option<String>,
    pub(super) method: String,
    uri: String,
    /// `Host` beside the authority in the URI.
    host: Option<String>,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What becomes of a stream.
pub(super) enum Then {
    Answer(u16, &'static str),
    /// Reset, without a byte of an answer.
    Reset(Reason),
    /// Answered, and the connection takes no further streams (GOAWAY).
    GoAway,
}

// === impl SecureUpstream ===

impl SecureUpstream {
    pub(super) async fn start() -> Self {
        let files = LocalCertificate::make();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let chain = vec![CertificateDer::from_pem_file(files.cert()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared::default());
        let mut server = JoinSet::new();
        let of_server = shared.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, acceptor.clone(), number, of_server.clone()));
            }
        });
        Self { files, url: url.parse().unwrap(), shared, _server: server }
    }

    pub(super) fn then(&self, then: Then) {
        self.shared.next.lock().push_back(then);
    }

    /// A gateway that offers these versions.
    pub(super) fn gateway(&self, versions: Versions) -> TestGateway {
        let (url, ca) = (self.url.clone(), Some(self.files.ca_file()));
        let setup = Setup::new(nobody()).public_url("https://gate.example");
        setup.upstream(|it| (it.url, it.ca, it.versions) = (url, ca, versions)).start()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, connection: usize, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let tls = stream.get_ref().1;
    // Whoever does not offer it has no HTTP/2 here.
    if tls.alpn_protocol() != Some(b"h2") {
        return;
    }
    let server_name = tls.server_name().map(str::to_owned);
    let mut streams = Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
    while let Some(Ok((request, respond))) = streams.accept().await {
        match shared.next.lock().pop_front() {
            Some(Then::GoAway) => {
                streams.graceful_shutdown();
                tokio::spawn(answer(request, respond, connection, server_name.clone(), shared.clone(), None));
            }
            then => {
                tokio::spawn(answer(request, respond, connection, server_name.clone(), shared.clone(), then));
            }
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    server_name: Option<String>,
    shared: Arc<Shared>,
    then: Option<Then>,
) {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = incoming.data().await {
        let Ok(piece) = piece else { return };
        body.extend_from_slice(&piece);
        let _ = incoming.flow_control().release_capacity(piece.len());
    }
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    shared.seen.lock().push(Seen {
        connection,
        server_name,
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        host: text("host"),
        headers: head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect(),
        body,
    });
    let (status, text) = match then {
        Some(Then::Reset(reason)) => return respond.send_reset(reason),
        Some(Then::Answer(status, text)) => (status, text),
        Some(Then::GoAway) | None => (200, ""),
    };
    let head = Response::builder().status(status).header("content-type", "application/json");
    let mut stream = respond.send_response(head.body(()).unwrap(), text.is_empty()).unwrap();
    if !text.is_empty() {
        let _ = stream.send_data(Bytes::from_static(text.as_bytes()), true);
    }
}

#[tokio::test]
async fn an_upstream_that_takes_http_2_sees_each_call_as_it_was_decided_and_calls_share_a_connection() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http2OrHttp1);
    let librarian = bearer(&Caller::application(PORTAL).permissions(["Library.Manage"]));
    let target = "/API/v1.0/machines/WS-1/collectInvestigationPackage?a=%2F..//&b=c%20d'(1)'";
    let collector = [
        ("Authorization", &*bearer(&playbooks())),
        ("Content-Type", "application/json"),
        ("X-ODD-case", "kept  as it is"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("TE", "trailers"),
        ("Connection", "X-ODD-case"),
    ];
    upstream.then(Then::Answer(201, r#"{"id":"7"}"#));
    let answer = gateway.connect().await.request("POST", target, &collector[..4], COMMENT).await;
    assert_eq!((answer.status, answer.text()), (201, r#"{"id":"7"}"#));
    assert_eq!(answer.remaining(), 99);
    // Hop by hop is what the caller calls so, and goes no further.
    gateway.connect().await.request("POST", target, &collector, COMMENT).await.assert_status(200);
    // A body that streams, and one in chunks.
    let upload = [("Authorization", &*librarian), ("Content-Type", "text/plain")];
    let file = "x".repeat(300_000);
    gateway.connect().await.request("POST", "/api/libraryfiles", &upload, &file).await.assert_status(200);
    let mut client = gateway.connect().await;
    let head = format!("POST /api/libraryfiles HTTP/1.1\r\nHost: a\r\nAuthorization: {librarian}\r\n");
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")).await;
    client.read_response().await.assert_status(200);

    let seen = upstream.seen();
    let authority = upstream.url.authority();
    for (request, body) in seen.iter().zip([COMMENT, COMMENT, &file, "hello!"]) {
        assert_eq!((request.connection, request.server_name.as_deref()), (1, Some("localhost")));
        assert!(request.body == body.as_bytes(), "{} of {} bytes", request.body.len(), body.len());
        assert_eq!((request.method.as_str(), request.host.as_deref()), ("POST", None));
    }
    let uris: Vec<_> = seen.iter().map(|request| request.uri.as_str()).collect();
    let (collect, files) =
        (format!("https://{authority}{target}"), format!("https://{authority}/api/libraryfiles"));
    assert_eq!(uris, [&collect, &collect, &files, &files]);
    let mut names: Vec<_> = seen[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort();
    assert_eq!(
        names,
        ["accept-encoding", "authorization", "content-length", "content-type", "x-odd-case", "x-request-id"]
    );
    assert!(!seen[1].headers.iter().any(|(name, _)| ["x-odd-case", "te", "connection"].contains(&&**name)));
}

#[tokio::test]
async fn links_in_an_answer_over_http_2_lead_through_the_gateway() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http2OrHttp1);
    upstream.then(Then::Answer(200, PAGE));
    let answer = gateway.get(&portal(), LIST).await;
    assert_eq!(answer.text(), PAGE.replace("api.example", "gate.example"));
}

#[tokio::test]
async fn an_upstream_that_does_not_take_http_2_is_spoken_to_by_http_1_1() {
    let behind = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let files = LocalCertificate::make();
    let front = places::TlsFront::start(&files, &behind).await;
    let (url, ca) = (front.url.clone(), Some(files.ca_file()));
    let setup =
        Setup::new(nobody()).upstream(|it| (it.url, it.ca, it.versions) = (url, ca, Versions::Http2OrHttp1));
    setup.start().get(&portal(), LIST).await.assert_status(200);
    assert_eq!(behind.requests().len(), 1);
}

#[tokio::test]
async fn nothing_but_http_1_1_is_offered_unless_it_is_asked_for() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http1);
    assert_eq!(reason(&gateway.get(&portal(), LIST).await), (502, Some("upstream_unavailable")));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_stream_that_the_upstream_resets_is_a_502_and_stays_charged_and_the_next_call_passes() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http2OrHttp1);
    for code in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
        upstream.then(Then::Reset(code));
        let answer = gateway.collect(&playbooks(), WORKSTATION).await;
        assert_eq!(reason(&answer), (502, Some("upstream_unavailable")), "{code:?}");
    }
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    assert_eq!((answer.status, answer.remaining()), (200, 96));
    assert_eq!(upstream.seen().len(), 4, "a call that may have been done is not repeated");
}

#[tokio::test]
async fn a_connection_that_takes_no_more_streams_is_replaced_and_no_call_fails() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http2OrHttp1);
    for number in 0..6 {
        if number % 2 == 0 {
            upstream.then(Then::GoAway);
        }
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(200);
    }
    let connections: Vec<_> = upstream.seen().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 6);
    assert!(connections.last() > connections.first(), "{connections:?}");
}
