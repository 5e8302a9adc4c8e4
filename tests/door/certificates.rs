//! Several certificates of ours, and those of clients.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate::settings::TlsSettings;

use super::tls::rest;
use super::*;
use crate::support::tls::LocalCertificate;
use crate::support::within_deadline;

/// A handshake for a name, trusting what signed `server`, with the certificate of `client` where it has one.
async fn connect(
    address: SocketAddr,
    name: &str,
    server: &LocalCertificate,
    client: Option<&LocalCertificate>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.ca_file()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(files.cert()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(files.key()).unwrap()).unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within_deadline("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn each_name_is_served_its_own_certificate_and_every_other_the_first() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let first = LocalCertificate::make();
    let second = LocalCertificate::of(&["api.example", "*.gateway.example"]);
    let third = LocalCertificate::of(&["soar.example"]);
    let settings =
        TlsSettings { others: vec![second.files(), third.files()], ..TlsSettings::from(first.files()) };
    let gateway = Setup::new(upstream.address()).tls(settings).start();
    for (name, served) in [
        ("localhost", &first),
        ("127.0.0.1", &first),
        ("api.example", &second),
        ("API.example", &second),
        ("eu.gateway.example", &second),
        ("soar.example", &third),
    ] {
        connect(gateway.address(), name, served, None)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // The first is not for this name, and says so rather than nothing.
    let error = connect(gateway.address(), "elsewhere.example", &first, None).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn where_clients_need_a_certificate_those_without_one_of_the_authority_are_not_served() {
    let (upstream, files) =
        (RecordingUpstream::start(Answer::new(200, "taken"), Clock::System), LocalCertificate::make());
    let (client, stranger) = (LocalCertificate::make(), LocalCertificate::make());
    let settings = TlsSettings { client_ca: Some(client.ca_file()), ..TlsSettings::from(files.files()) };
    let gateway = Setup::new(upstream.address()).tls(settings).start();
    let ask = async |shown| {
        let mut stream = connect(gateway.address(), "localhost", &files, shown).await.ok()?;
        stream.write_all(list("Connection: close\r\n").as_bytes()).await.ok()?;
        let answer = within_deadline("an answer", rest(stream)).await;
        answer.starts_with(b"HTTP/1.1 200 ").then_some(())
    };
    assert_eq!(ask(Some(&client)).await, Some(()));
    assert_eq!(ask(None).await, None);
    assert_eq!(ask(Some(&stranger)).await, None);
    assert_eq!(upstream.requests().len(), 1);
}
