//! Where the upstream is: several places, names of its own, an authority of its own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tollgate::settings::UpstreamUrl;

use super::*;
use crate::support::tls::{LocalCertificate, Relay};
use crate::support::within_deadline;

/// Takes TLS connections with a certificate and passes them on.
pub(super) struct TlsFront {
    pub(super) url: UpstreamUrl,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
    _server: JoinSet<()>,
}

impl TlsFront {
    pub(super) async fn start(files: &LocalCertificate, behind: &RecordingUpstream) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let chain = vec![CertificateDer::from_pem_file(files.cert()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let behind = behind.address();
        let mut server = JoinSet::new();
        let handshakes = Arc::<Mutex<Vec<_>>>::default();
        let kinds = handshakes.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (acceptor, kinds) = (acceptor.clone(), kinds.clone());
                connections.spawn(async move {
                    let Ok(mut near) = acceptor.accept(near).await else { return };
                    kinds.lock().extend(near.get_ref().1.handshake_kind());
                    let mut far = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { url: url.parse().unwrap(), handshakes, _server: server }
    }

    /// How the handshakes went that were finished so far.
    pub(super) fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes.lock().clone()
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_connected_to_is_passed_over_until_it_can_be_again() {
    let (first, second) = (nobody(), RecordingUpstream::start(Answer::new(200, ""), Clock::System));
    let fallback = second.address();
    let setup = Setup::new(first).upstream(|it| it.fallbacks = vec![UpstreamUrl::http(fallback)]);
    let gateway = setup.start();
    for _ in 0..3 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(200);
    }
    let seen = second.wait_for(3).await;
    assert!(seen.iter().all(|request| request.header("Host") == Some(&*fallback.to_string())), "{seen:?}");

    let back = RecordingUpstream::start_at(first, Answer::new(200, ""), Clock::System);
    within_deadline("the first place is used again", async {
        while back.requests().is_empty() {
            gateway.hand.advance(Duration::from_secs(5));
            Clock::System.sleep(Duration::from_millis(5)).await;
            gateway.get(&portal(), "/api/machines").await.assert_status(200);
        }
    })
    .await;
    assert_eq!(back.requests()[0].header("Host"), Some(&*first.to_string()));
}

#[tokio::test]
async fn a_place_that_takes_connections_and_never_finishes_tls_is_waited_for_by_one_call_and_no_more() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let files = LocalCertificate::make();
    let front = TlsFront::start(&files, &upstream).await;
    // Connections to it are taken by the system, and nobody ever looks at them.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let silent = Relay::start(listener.local_addr().unwrap()).await;
    let url: UpstreamUrl = format!("https://{}", silent.address).parse().unwrap();
    let (fallbacks, ca) = (vec![front.url.clone()], Some(files.ca_file()));
    let connect = Duration::from_secs(1);
    let setup = Setup::new(nobody());
    let setup = setup.upstream(|it| {
        (it.url, it.fallbacks, it.ca, it.connect) = (url, fallbacks, ca, connect);
    });
    let gateway = setup.start();
    gateway.get(&portal(), "/api/machines").await.assert_status(200);
    for _ in 0..2 {
        // On a busy machine one more try may begin late. If calls waited for it, one would after each.
        let mut tries = 0..5;
        while calls_after_a_try(&gateway, &silent).await > 0 {
            tries.next().expect("a try after which no call waits for the place");
        }
    }
}

/// Waits until the gateway tries this place, and makes some calls then; how many connections it got for these.
async fn calls_after_a_try(gateway: &TestGateway, silent: &Relay) -> usize {
    let before = silent.connections();
    within_deadline("a try", async {
        while silent.connections() == before {
            gateway.hand.advance(Duration::from_secs(5));
            Clock::System.sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let tried = silent.connections();
    for _ in 0..5 {
        gateway.get(&portal(), "/api/machines").await.assert_status(200);
    }
    silent.connections() - tried
}

#[tokio::test]
async fn an_upstream_is_trusted_by_the_authority_that_is_given_and_by_no_other() {
    let upstream = RecordingUpstream::start(Answer::new(200, "behind TLS"), Clock::System);
    let (files, other) = (LocalCertificate::make(), LocalCertificate::make());
    let front = TlsFront::start(&files, &upstream).await;
    for (ca, status) in [(files.ca_file(), 200), (other.ca_file(), 502)] {
        let setup = Setup::new(nobody()).upstream(|it| (it.url, it.ca) = (front.url.clone(), Some(ca)));
        let gateway = setup.start();
        gateway.get(&portal(), "/api/machines").await.assert_status(status);
    }
    // Nor is one that proves another name.
    let by_address = front.url.to_string().replace("localhost", "127.0.0.2");
    let setup = Setup::new(nobody());
    let setup = setup.upstream(|it| (it.url, it.ca) = (by_address.parse().unwrap(), Some(files.ca_file())));
    setup.start().get(&portal(), "/api/machines").await.assert_status(502);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn what_claims_where_a_call_came_from_is_not_passed_on() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    for hops in ["0", "1"] {
        let gateway = Setup::new(upstream.address()).trusted_hops(hops).start();
        let authorization = bearer(&portal());
        let claims = [
            ("Authorization", authorization.as_str()),
            ("Forwarded", "for=192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("X-Forwarded-Host", "elsewhere.example"),
            ("X-Forwarded-Proto", "http"),
            ("X-Real-IP", "192.0.2.1"),
            ("X-Forwarder", "is another word"),
        ];
        gateway.connect().await.request("GET", "/api/machines", &claims, "").await.assert_status(200);
    }
    for request in upstream.wait_for(2).await {
        let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        assert_eq!(names, ["authorization", "host", "x-forwarder", "x-request-id"]);
    }
}
