//! Which thread serves a connection. The upstream can tell: each thread has its own connections there.

use super::*;
use crate::support::raw::RawClient;

/// Asks once, and says which of the upstream's connections it went over.
async fn over(client: &mut RawClient, upstream: &RecordingUpstream) -> usize {
    client.send(list("")).await;
    client.read_response().await.assert_status(200);
    upstream.take_requests().pop().unwrap().connection
}

#[tokio::test]
async fn a_connection_goes_to_the_thread_that_has_fewest_and_stays_there() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = Setup::new(upstream.address()).threads(2).start();
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = gateway.connect().await;
        assert_eq!(over(&mut client, &upstream).await, 1 + number % 2);
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(over(client, &upstream).await, 1 + number % 2);
    }
    // The second thread has none left.
    clients.remove(3);
    clients.remove(1);
    until("two to go", || gateway.server().metrics.connections() == 2).await;
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        assert_eq!(over(&mut client, &upstream).await, 2);
        clients.push(client);
    }
    assert_eq!(upstream.connections(), 2);
}
