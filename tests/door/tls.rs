//! What the tests of the door need to speak HTTP/2 frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::support::frames::FrameClient;
use crate::support::tls::LocalCertificate;
use crate::support::within_deadline;

/// The preface of a client (RFC 9113, section 3.4), and settings that are all as they are by default.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A gateway over TLS, and its certificate.
pub(super) fn secure(bounds: Bounds) -> (RecordingUpstream, TestGateway, LocalCertificate) {
    secure_with(|setup| setup.bounds(bounds))
}

/// The same, set up otherwise.
pub(super) fn secure_with(
    change: impl FnOnce(Setup) -> Setup,
) -> (RecordingUpstream, TestGateway, LocalCertificate) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let files = LocalCertificate::make();
    let gateway = change(Setup::new(upstream.address())).tls(files.files()).start();
    (upstream, gateway, files)
}

/// A client that has begun to speak HTTP/2.
pub(super) async fn frames(gateway: &TestGateway, files: &LocalCertificate) -> FrameClient {
    let mut client = FrameClient::new(http2(gateway.address(), files).await);
    client.begin().await;
    client
}

/// The fields of a call that passes, as a client must send them.
pub(super) fn call(method: &str, path: &str) -> Vec<(String, String)> {
    let fields = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "gateway"),
        (":path", path),
        ("authorization", &bearer(&portal())),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// A connection on which HTTP/2 was agreed, and nothing said.
pub(crate) async fn http2(address: SocketAddr, files: &LocalCertificate) -> TlsStream<TcpStream> {
    try_connect(address, files, b"h2").await.unwrap()
}

/// One on which HTTP/1.1 was.
async fn http1(address: SocketAddr, files: &LocalCertificate) -> TlsStream<TcpStream> {
    try_connect(address, files, b"http/1.1").await.unwrap()
}

/// A handshake of a client that trusts the CA whose file is there now.
async fn try_connect(
    address: SocketAddr,
    files: &LocalCertificate,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_by(address, files, protocol, rustls::DEFAULT_VERSIONS).await
}

/// The same of one that speaks these versions of TLS alone.
async fn connect_by(
    address: SocketAddr,
    files: &LocalCertificate,
    protocol: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.ca_file()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_protocol_versions(versions);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within_deadline("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Everything until the other side closes, in whichever way.
pub(super) async fn rest(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {}
    bytes
}

#[tokio::test]
async fn a_certificate_is_replaced_for_the_next_handshake_and_a_wrong_one_is_not_taken() {
    // The clock is moved by more than a connection may wait otherwise.
    let (_upstream, gateway, files) =
        secure(Bounds { header: Duration::from_secs(3_600), ..Bounds::default() });
    let served = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut open = http1(gateway.address(), &files).await;
    let first = served(&open);
    let others = [LocalCertificate::make(), LocalCertificate::make()];

    // A key that is another's: half of a replacement, and then the whole.
    std::fs::copy(others[0].key(), files.key()).unwrap();
    for _ in 0..3 {
        gateway.hand.advance(Duration::from_secs(10));
        assert_eq!(served(&http1(gateway.address(), &files).await), first);
    }
    for name in ["ca.pem", "cert.pem"] {
        std::fs::copy(others[0].cert().with_file_name(name), files.cert().with_file_name(name)).unwrap();
    }
    let second = std::fs::read(files.cert()).unwrap();
    let second = CertificateDer::from_pem_slice(&second).unwrap().to_vec();
    within_deadline("the new certificate", async {
        loop {
            gateway.hand.advance(Duration::from_secs(10));
            // Until then the client, which trusts the new one alone, finds the old one.
            if let Ok(stream) = try_connect(gateway.address(), &files, b"http/1.1").await {
                return assert_eq!(served(&stream), second);
            }
        }
    })
    .await;

    // The connection of before goes on.
    open.write_all(b"GET /api/nothing HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = within_deadline("an answer", rest(open)).await;
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn a_client_of_tls_1_2_alone_and_one_of_1_3_alone_are_served() {
    let (upstream, gateway, files) = secure(Bounds::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = connect_by(gateway.address(), &files, b"http/1.1", &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        stream.write_all(list("Connection: close\r\n").as_bytes()).await.unwrap();
        let answer = within_deadline("an answer", rest(stream)).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
    }
    assert_eq!(upstream.requests().len(), 2);
}
