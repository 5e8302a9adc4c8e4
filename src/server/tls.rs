//! TLS towards callers: certificates that are replaced while connections go on.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::server::StartError;
use crate::settings::{TlsFiles, TlsSettings};
use crate::time::Clock;

/// Between two looks at the files: whoever renews a certificate does so days before the old one ends.
const LOOK: Duration = Duration::from_secs(10);

/// The certificates that are served, and the files where the next ones will be.
#[derive(Debug)]
pub(super) struct Certificates {
    settings: TlsSettings,
    config: ArcSwap<ServerConfig>,
    /// What the files said when they were last looked at, right or wrong.
    seen: AtomicU64,
    asked: Notify,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// If they can't be read, or do not belong together.
    pub(super) fn open(settings: TlsSettings) -> Result<Self, StartError> {
        let config = ArcSwap::from_pointee(config(&settings)?);
        let seen = fingerprint(&settings).map_err(|error| wrong(&settings.first.cert, &error))?;
        Ok(Self { settings, config, seen: AtomicU64::new(seen), asked: Notify::new() })
    }

    /// For one handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Has the files looked at soon.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Looks at the files again and again, until it is dropped. New ones serve the handshakes from then on; of wrong
    /// ones nothing is taken.
    pub(super) async fn watch(self: Arc<Self>, clock: Clock) {
        loop {
            tokio::select! {
                () = clock.sleep(LOOK) => {}
                () = self.asked.notified() => {}
            }
            match self.look() {
                Ok(Look::Same) => {}
                Ok(Look::New) => {
                    tracing::info!(path = %self.settings.first.cert.display(), "new certificates are served");
                }
                Err(error) => tracing::error!(%error, "the certificates are left as they are"),
            }
        }
    }

    fn look(&self) -> Result<Look, StartError> {
        // A file that is being replaced may not be there for a moment; if it stays away, the one in force still serves.
        let Ok(seen) = fingerprint(&self.settings) else { return Ok(Look::Same) };
        if self.seen.swap(seen, Ordering::Relaxed) == seen {
            return Ok(Look::Same);
        }
        self.config.store(Arc::new(config(&self.settings)?));
        Ok(Look::New)
    }
}

enum Look {
    Same,
    New,
}

/// The certificates, to be chosen from by name.
#[derive(Debug)]
struct Names {
    first: Arc<CertifiedKey>,
    others: Vec<Arc<CertifiedKey>>,
}

/// Tells two states of the files apart; nobody chooses them against us.
fn fingerprint(settings: &TlsSettings) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let pairs = settings.certificates().flat_map(|files| [&files.cert, &files.key]);
    for path in pairs.chain(&settings.client_ca) {
        std::fs::read(path)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// TLS 1.2 and 1.3 with these certificates; HTTP/2 before HTTP/1.1.
fn config(settings: &TlsSettings) -> Result<ServerConfig, StartError> {
    let builder = ServerConfig::builder();
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(authorities(path)?)).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, &error))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Names::read(settings)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities of a file, at least one.
///
/// # Errors
/// [`StartError::Tls`] that names the file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| wrong(path, &error))?;
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(path, &error))?;
    if chain.is_empty() { Err(wrong(path, &"it holds no certificate")) } else { Ok(chain) }
}

fn wrong(path: &Path, error: &dyn Display) -> StartError {
    StartError::Tls { path: path.to_owned(), error: error.to_string() }
}

// === impl Names ===

impl Names {
    fn read(settings: &TlsSettings) -> Result<Self, StartError> {
        let first = certified(&settings.first)?;
        let others = settings.others.iter().map(certified).collect::<Result<_, _>>()?;
        Ok(Self { first, others })
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.others.iter().find(|key| is_for(key, &name)));
        Some(named.unwrap_or(&self.first).clone())
    }
}

/// Whether a certificate has a name, wildcards included.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

fn certified(files: &TlsFiles) -> Result<Arc<CertifiedKey>, StartError> {
    let chain = chain(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, &error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    Ok(Arc::new(certified.map_err(|error| wrong(&files.cert, &error))?))
}
