//! Certificates for a gateway under test, and clients that trust them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tollgate::settings::TlsFiles;

/// A certificate for `127.0.0.1` and `localhost` in two files, for as long as it lives.
pub(crate) struct LocalCertificate {
    folder: TempDir,
    ca: String,
}

/// Passes connections on and counts them: what a client sends over one connection counts once.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Aborts what it runs when it is dropped.
    _server: JoinSet<()>,
}

// === impl LocalCertificate ===

impl LocalCertificate {
    pub(crate) fn make() -> Self {
        Self::of(&["localhost", &Ipv4Addr::LOCALHOST.to_string()])
    }

    /// One for other names.
    pub(crate) fn of(names: &[&str]) -> Self {
        let mut ca = CertificateParams::default();
        // Another name than the certificate's, which would be taken for one that signed itself.
        ca.distinguished_name.push(DnType::CommonName, "CA of a test");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca: ca.pem() }
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The CA that signed it.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.cert(), key: self.key() }
    }

    /// A client that trusts its CA alone.
    pub(crate) fn client(&self) -> Client {
        trusting(self.ca.as_bytes()).build().unwrap()
    }

    /// One that offers HTTP/1.1 alone.
    pub(crate) fn http1_client(&self) -> Client {
        trusting(self.ca.as_bytes()).http1_only().build().unwrap()
    }
}

/// A client that trusts this CA (PEM) alone, and goes through no proxy of the environment.
pub(crate) fn trusting(ca: &[u8]) -> ClientBuilder {
    // Every process of rustls's users has to choose; the second choice is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([Certificate::from_pem(ca).unwrap()])
}

// === impl Relay ===

impl Relay {
    /// One in front of this address.
    pub(crate) async fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        let count = accepted.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    let mut far = TcpStream::connect(behind).await.unwrap();
                    // Either side may reset it, as it may without a relay.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, accepted, _server: server }
    }

    /// How many connections were ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}
