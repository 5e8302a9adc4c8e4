//! What the tests of the door need to speak HTTP/2 frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::support::tls::LocalCertificate;
use crate::support::within_deadline;

/// The preface of a client (RFC 9113, section 3.4), and settings that are all as they are by default.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A gateway over TLS, and its certificate.
pub(super) fn secure(bounds: Bounds) -> (RecordingUpstream, TestGateway, LocalCertificate) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let files = LocalCertificate::make();
    let gateway = Setup::new(upstream.address()).bounds(bounds).tls(files.files()).start();
    (upstream, gateway, files)
}

/// A connection on which HTTP/2 was agreed, and nothing said.
pub(super) async fn http2(address: SocketAddr, files: &LocalCertificate) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.ca_file()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within_deadline("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

/// Everything until the other side closes, in whichever way.
pub(super) async fn rest(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {}
    bytes
}
