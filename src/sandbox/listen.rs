//! Serving a stand-in on a socket that is bound already, over http or over https with a CA of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::serve::ListenerExt;
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// A certificate for `localhost`, `127.0.0.1` and `::1`, and the CA that signed it.
///
/// Both are made anew each time and the CA's private key is dropped at once: whoever is told to trust the CA trusts
/// this one certificate and no other.
#[derive(Debug, Clone)]
pub struct LocalTls {
    ca_pem: String,
    config: Arc<ServerConfig>,
}

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LocalTlsError {
    /// The certificate itself.
    #[error("cannot make a certificate for localhost: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The server's use of it.
    #[error("cannot serve https with the certificate for localhost: {0}")]
    Server(#[from] rustls::Error),
}

// === impl LocalTls ===

impl LocalTls {
    /// Makes a CA and a certificate (ECDSA P-256).
    ///
    /// # Errors
    ///
    /// If the operating system gives no random numbers.
    pub fn generate() -> Result<Self, LocalTlsError> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Tollgate sandbox CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let mut server = CertificateParams::new(["localhost".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        server.subject_alt_names.push(SanType::IpAddress(Ipv6Addr::LOCALHOST.into()));
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict verifiers, such as Python's since 3.13, ask for it.
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { ca_pem: authority.pem(), config: Arc::new(config) })
    }

    /// The CA's certificate, for clients that must trust it.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

/// Serves over http/1.1 with keep-alive, until dropped. The listener need not be non-blocking.
///
/// # Errors
///
/// If the listener can't be used.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // Head and body of an answer are two writes: with Nagle's algorithm the second would wait for the client.
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    axum::serve(listener, router).await
}

/// Serves over https, until dropped. The listener need not be non-blocking.
///
/// # Errors
///
/// If the listener can't be used.
pub async fn serve_tls(listener: TcpListener, router: Router, tls: &LocalTls) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let config = RustlsConfig::from_config(tls.config.clone());
    from_tcp_rustls(listener, config)?.serve(router.into_make_service()).await
}
