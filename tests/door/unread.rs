//! HTTP/2 clients that give no room for what they are told: nobody waits for them, and they take nobody's place.

use super::tls::{call, http2, secure};
use super::*;
use crate::support::frames::{
    END_HEADERS, END_STREAM, Event, FrameClient, HEADERS, MAGIC, fields, frame, settings,
};
use crate::support::tls::LocalCertificate;
use crate::support::upstream::Ending;

// Settings (RFC 9113, section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The error code `CANCEL` (RFC 9113, section 7).
const CANCEL: u32 = 8;

/// A client none of whose streams ever has room for a byte of a body.
async fn closed(gateway: &TestGateway, files: &LocalCertificate) -> FrameClient {
    let mut client = FrameClient::new(http2(gateway.address(), files).await);
    client.send([MAGIC, &settings(&[(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, 0)])].concat()).await;
    assert_eq!(client.event().await, Event::Settled);
    client
}

/// A call with these fields, on a stream.
fn on(stream: u32, call: &[(String, String)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(call))
}

/// What a caller is told who reads it.
async fn another(gateway: &TestGateway, files: &LocalCertificate) -> Event {
    let mut client = tls::frames(gateway, files).await;
    client.send(on(1, &call("GET", "/api/machines"))).await;
    client.outcome(1).await
}

/// Waits for the next reset of a stream.
async fn reset(client: &mut FrameClient) -> Event {
    loop {
        let event = client.event().await;
        if let Event::Reset { .. } | Event::Closed | Event::GoAway { .. } = event {
            return event;
        }
    }
}

#[tokio::test]
async fn a_stranger_who_gives_no_room_for_a_refusal_takes_nobodys_place_and_is_not_waited_for() {
    const STREAMS: u32 = 50;
    let (_upstream, gateway, files) = secure(Bounds { in_flight: count(2), ..Bounds::default() });
    let mut stranger = closed(&gateway, &files).await;
    let mut without_token = call("GET", "/api/machines");
    without_token.retain(|(name, _)| name != "authorization");
    let streams: Vec<u32> = (0..STREAMS).map(|number| 2 * number + 1).collect();
    stranger.send(streams.iter().flat_map(|&stream| on(stream, &without_token)).collect::<Vec<_>>()).await;
    for _ in &streams {
        assert!(matches!(stranger.event().await, Event::Answer { status: 401, .. }));
    }
    // All of them are still to be written.
    assert_eq!(gateway.server().metrics.requests_in_flight(), i64::from(STREAMS));
    assert_eq!(another(&gateway, &files).await, Event::Answer { stream: 1, status: 200 });
    let (waited, ()) = time_until(&gateway, async {
        for _ in &streams {
            assert!(matches!(reset(&mut stranger).await, Event::Reset { code: CANCEL, .. }));
        }
    })
    .await;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    settled(&gateway).await;
}

#[tokio::test]
async fn so_it_is_with_the_answer_to_a_call_that_the_api_did_not_answer() {
    let (upstream, gateway, files) = secure(Bounds { in_flight: count(1), ..Bounds::default() });
    upstream.answer_next(Answer::new(200, "").ending(Ending::CloseBefore));
    let mut client = closed(&gateway, &files).await;
    client.send(on(1, &call("GET", "/api/machines"))).await;
    assert_eq!(client.event().await, Event::Answer { stream: 1, status: 502 });
    assert_eq!(gateway.server().metrics.requests_in_flight(), 1);
    assert_eq!(another(&gateway, &files).await, Event::Answer { stream: 1, status: 200 });
    let (_, event) = time_until(&gateway, reset(&mut client)).await;
    assert_eq!(event, Event::Reset { stream: 1, code: CANCEL });
    settled(&gateway).await;
}

#[tokio::test]
async fn so_it_is_with_the_refusal_of_a_tunnel() {
    let (_upstream, gateway, files) = secure(Bounds::default());
    let mut client = closed(&gateway, &files).await;
    let tunnel = call("CONNECT", "").into_iter().filter(|(name, _)| name != ":scheme" && name != ":path");
    client.send(on(1, &tunnel.collect::<Vec<_>>())).await;
    assert_eq!(client.event().await, Event::Answer { stream: 1, status: 400 });
    let (_, event) = time_until(&gateway, reset(&mut client)).await;
    assert_eq!(event, Event::Reset { stream: 1, code: CANCEL });
}
