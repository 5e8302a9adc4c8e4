//! Issuers whose keys are discovered: a process that takes over has them as the one before did.

use super::*;
use crate::support::gateway::issuer;
use crate::support::key_site::KeySite;

async fn list(gateway: SocketAddr) -> u16 {
    let authorization = authorization(&portal());
    list_on(&mut RawClient::connect(gateway).await, &authorization).await
}

async fn list_on(client: &mut RawClient, authorization: &str) -> u16 {
    client.request("GET", "/api/machines", &[("Authorization", authorization)], b"").await.status
}

#[tokio::test]
async fn a_process_takes_over_only_when_it_has_the_keys_of_its_issuers() {
    let site = KeySite::start(issuer());
    let mut line = Line::with(&site.policy(), &[]).await;
    let gateway = line.serving.gateway;
    let (mut client, authorization) = (RawClient::connect(gateway).await, authorization(&portal()));
    assert_eq!(list_on(&mut client, &authorization).await, 200);
    site.hang();
    let fetches = site.fetches();
    let keys = &site;
    let ((), before) = tokio::join!(
        async move {
            keys.wait_for_fetches(fetches + 1).await;
            // The next process waits for its keys, for five seconds and no more, and this one has some.
            assert_eq!(list_on(&mut client, &authorization).await, 200);
            keys.publish(&[issuer()]);
        },
        line.pass_on()
    );
    // Whatever is asked now comes to nothing.
    site.hang();
    assert_eq!(list(gateway).await, 200);
    assert_eq!(before.ended().await.code, Some(0));
    assert_eq!(site.fetches(), fetches + 1);
}

#[tokio::test]
async fn a_process_that_cannot_have_the_keys_of_an_issuer_does_not_take_over() {
    let site = KeySite::start(issuer());
    let line = Line::with(&site.policy(), &[]).await;
    assert_eq!(list(line.serving.gateway).await, 200);
    site.fail();
    let next = line.next().await;
    line.serving.process.signal(Signal::QUIT);
    let ended = next.ended().await;
    assert_eq!(ended.code, Some(2));
    let said = "cannot take over without the keys of issuer `site`";
    assert!(ended.err.iter().any(|line| line.contains(said) && line.contains("500")), "{ended:#?}");
    line.serving.process.says_anywhere("no process took over").await;
    assert_eq!(list(line.serving.gateway).await, 200);
}
