//! What callers' TLS is served with.

use std::path::PathBuf;

use super::InvalidSettings;

/// The flags of `tollgate serve` about TLS towards callers.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TlsFlags {
    /// Certificate chain (PEM) to serve TLS with; several, each with its key, are chosen from by the name that a client
    /// asks for (SNI), and the first is served to the others; all are read again when they change and on SIGHUP
    #[arg(long, env = "TOLLGATE_TLS_CERT", value_name = "FILE", value_delimiter = ',', requires = "tls_key")]
    tls_cert: Vec<PathBuf>,

    /// Private key (PEM) of the certificate in the same place
    #[arg(long, env = "TOLLGATE_TLS_KEY", value_name = "FILE", value_delimiter = ',', requires = "tls_cert")]
    tls_key: Vec<PathBuf>,

    /// Authorities (PEM), one of which must have signed a certificate that every client has to show
    #[arg(long, env = "TOLLGATE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

/// The two files of a served certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

/// What callers' TLS is served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Served to whoever asks for no name, or for one that no certificate has.
    pub first: TlsFiles,
    /// Served to those who ask for a name of theirs.
    pub others: Vec<TlsFiles>,
    /// The authorities of the certificates that clients must show, in PEM; without it they need none.
    pub client_ca: Option<PathBuf>,
}

impl From<TlsFiles> for TlsSettings {
    /// One certificate, for clients that need none.
    fn from(first: TlsFiles) -> Self {
        Self { first, others: Vec::new(), client_ca: None }
    }
}

impl TlsSettings {
    /// Every certificate, the first at the head.
    pub fn certificates(&self) -> impl Iterator<Item = &TlsFiles> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl TlsFlags {
    /// What they say; none if TLS is not served.
    ///
    /// # Errors
    /// [`InvalidSettings::Pairs`].
    pub(super) fn settings(self) -> Result<Option<TlsSettings>, InvalidSettings> {
        let (certificates, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certificates != keys {
            return Err(InvalidSettings::Pairs { certificates, keys });
        }
        let pairs = self.tls_cert.into_iter().zip(self.tls_key);
        let mut pairs = pairs.map(|(cert, key)| TlsFiles { cert, key });
        let client_ca = self.tls_client_ca;
        Ok(pairs.next().map(|first| TlsSettings { first, others: pairs.collect(), client_ca }))
    }
}
