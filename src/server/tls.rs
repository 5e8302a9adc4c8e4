//! TLS towards callers: a certificate that is replaced while connections go on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::server::StartError;
use crate::settings::TlsFiles;
use crate::time::Clock;

/// Between two looks at the files: whoever renews a certificate does so days before the old one ends.
const LOOK: Duration = Duration::from_secs(10);

/// The certificate that is served, and the files where the next one will be.
#[derive(Debug)]
pub(super) struct Certificate {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    /// What the files said when they were last looked at, right or wrong.
    seen: AtomicU64,
    asked: Notify,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If they can't be read, or do not belong together.
    pub(super) fn open(files: TlsFiles) -> Result<Self, StartError> {
        let wrong = |error: io::Error| StartError::Tls { path: files.cert.clone(), error: error.to_string() };
        let config = ArcSwap::from_pointee(config(&files)?);
        let seen = fingerprint(&files).map_err(wrong)?;
        Ok(Self { files, config, seen: AtomicU64::new(seen), asked: Notify::new() })
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
                    tracing::info!(path = %self.files.cert.display(), "a new certificate is served");
                }
                Err(error) => tracing::error!(%error, "the certificate is left as it is"),
            }
        }
    }

    fn look(&self) -> Result<Look, StartError> {
        // A file that is being replaced may not be there for a moment; if it stays away, the one in force still serves.
        let Ok(seen) = fingerprint(&self.files) else { return Ok(Look::Same) };
        if self.seen.swap(seen, Ordering::Relaxed) == seen {
            return Ok(Look::Same);
        }
        self.config.store(Arc::new(config(&self.files)?));
        Ok(Look::New)
    }
}

enum Look {
    Same,
    New,
}

/// Tells two states of the files apart; nobody chooses them against us.
fn fingerprint(files: &TlsFiles) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(&files.cert)?.hash(&mut hasher);
    std::fs::read(&files.key)?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// TLS 1.2 and 1.3 with this certificate; HTTP/2 before HTTP/1.1.
fn config(files: &TlsFiles) -> Result<ServerConfig, StartError> {
    let wrong = |path: &Path, error: String| StartError::Tls { path: path.to_owned(), error };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&files.cert, error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.cert, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
