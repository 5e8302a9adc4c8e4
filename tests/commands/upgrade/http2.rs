//! Clients over TLS and HTTP/2, who have many calls on a connection.

use reqwest::{Client, Version};

use super::*;
use crate::support::tls::LocalCertificate;

/// The first process, which serves TLS, and a client that trusts it.
async fn secure(files: &LocalCertificate) -> Line {
    let (cert, key) = (files.cert(), files.key());
    let flags = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    Line::with(&policy_with("limits.toml", ""), &flags).await
}

/// Calls until it is told to stop; each must pass. It keeps its connection for as long as it is let.
async fn call(client: Client, gateway: SocketAddr, stop: Arc<AtomicBool>, passed: Arc<AtomicUsize>) {
    let authorization = authorization(&portal());
    while !stop.load(Ordering::SeqCst) {
        let request = client.get(format!("https://{gateway}/api/machines"));
        let answer = request.header("Authorization", &authorization).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        assert_eq!(answer.text().await.unwrap(), "{}");
        passed.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_take_over_under_load_over_tls_and_http_2_and_no_request_fails() {
    const STEP: usize = 60;
    let files = LocalCertificate::make();
    let mut line = secure(&files).await;
    let (stop, passed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        // Three connections, with four calls at once on each.
        let client = files.client();
        for _ in 0..4 {
            callers.spawn(call(client.clone(), line.serving.gateway, stop.clone(), passed.clone()));
        }
    }
    for round in 1..=4 {
        let most = round * STEP;
        eventually("answers", || (passed.load(Ordering::SeqCst) >= most).then_some(())).await;
        // It ends long before its grace: clients are told to go.
        let before = line.pass_on().await;
        assert_eq!(before.ended().await.code, Some(0));
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(line.upstream.requests().len(), passed.load(Ordering::SeqCst));
}
