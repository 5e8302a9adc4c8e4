//! TLS towards callers.

use std::path::Path;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::server::StartError;
use crate::settings::TlsFiles;

/// TLS 1.2 and 1.3 with this certificate; HTTP/2 before HTTP/1.1.
///
/// # Errors
/// If the files can't be read, or do not belong together.
pub(super) fn config(files: &TlsFiles) -> Result<ServerConfig, StartError> {
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
