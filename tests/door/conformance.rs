//! HTTP/2 as RFC 9113 has it, frame by frame: what a client may not send is refused with the error that the RFC asks
//! for, costs nobody else anything, and never reaches the API.
//!
//! A stream's error may be made its connection's (section 5.4.1), and a preface that is none need not be answered
//! (section 3.4).
//!
//! Each case is a connection of its own over TLS. What it sends would pass if it were not for the one thing that its name
//! says.

mod connections;
mod messages;

use super::tls::{call, http2, secure};
use super::*;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Event, FrameClient, HEADERS, MAGIC, PING, fields, frame, settings,
};

// Error codes (RFC 9113, section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The connection ends with this error, and closes.
    Connection(u32),
    /// The connection ends with `PROTOCOL_ERROR`, though the RFC has this error for it.
    Vague(u32),
    /// The connection closes without a word.
    Closed,
    /// The stream ends with this error, and the connection goes on.
    Stream(u32),
    /// The stream is answered with 400, and the connection goes on.
    Refused,
    /// It is lawful: the call passes.
    Served,
}

use Outcome::{Closed, Connection, Refused, Served, Stream, Vague};

/// What is sent, and what must come of it on which stream.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    stream: u32,
    outcome: Outcome,
}

/// A case on stream 1, after a client's preface.
fn case(name: &'static str, frames: &[Vec<u8>], outcome: Outcome) -> Case {
    let bytes = [&[MAGIC.to_vec(), settings(&[])], frames].concat().concat();
    Case { name, bytes, stream: 1, outcome }
}

/// The header block of a call that passes.
fn block() -> Vec<u8> {
    fields(&call("GET", "/api/machines"))
}

/// The same for one with a body, which streams on.
fn upload_block() -> Vec<u8> {
    fields(&call("POST", "/api/libraryfiles"))
}

/// A whole call on a stream.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block())
}

/// A call whose body is still to come.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &upload_block())
}

/// Its body.
fn body(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, b"a body")
}

async fn run(cases: Vec<Case>) {
    let (upstream, gateway, files) = secure(Bounds::default());
    // Somebody else, who is served all along.
    let mut witness = FrameClient::new(http2(gateway.address(), &files).await);
    witness.begin().await;
    let mut turn = 1;
    let mut wrong = Vec::new();
    for Case { name, bytes, stream, outcome } in cases {
        let mut client = FrameClient::new(http2(gateway.address(), &files).await);
        client.send(&bytes).await;
        let got = outcome_of(&mut client, stream).await;
        let whole = match got {
            // The connection goes on: a call on the next stream passes.
            Some(Stream(_) | Refused | Served) => {
                client.send(get(1_001)).await;
                client.outcome(1_001).await == Event::Answer { stream: 1_001, status: 200 }
            }
            _ => true,
        };
        witness.send(get(turn)).await;
        assert_eq!(witness.outcome(turn).await, Event::Answer { stream: turn, status: 200 }, "{name}");
        turn += 2;
        let expected = 1
            + usize::from(got == Some(Served))
            + usize::from(matches!(got, Some(Stream(_) | Refused | Served)) && whole);
        let seen = upstream.take_requests().len();
        let outcome = match outcome {
            Vague(named) => {
                assert_ne!(named, PROTOCOL_ERROR, "{name}");
                Connection(PROTOCOL_ERROR)
            }
            plain => plain,
        };
        if got != Some(outcome) || !whole || seen != expected {
            wrong.push(format!(
                "{name}: {got:?}, not {outcome:?}; goes on: {whole}; {seen} of {expected} seen"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn outcome_of(client: &mut FrameClient, stream: u32) -> Option<Outcome> {
    match client.outcome(stream).await {
        Event::Answer { status: 200, .. } => Some(Served),
        Event::Answer { status: 400, .. } => Some(Refused),
        Event::Reset { code, .. } => Some(Stream(code)),
        Event::GoAway { code } => {
            // Resets of streams may come before the end.
            while client.event().await != Event::Closed {}
            Some(Connection(code))
        }
        Event::Closed => Some(Closed),
        _ => None,
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_what_it_carries_and_settings_are_acknowledged() {
    let (_upstream, gateway, files) = secure(Bounds::default());
    let mut client = FrameClient::new(http2(gateway.address(), &files).await);
    client.begin().await;
    assert_eq!(client.event().await, Event::Settled);
    client.send(frame(PING, 0, 0, b"payload!")).await;
    let pong = loop {
        let frame = client.next().await.unwrap();
        if frame.kind == PING {
            break frame;
        }
    };
    assert_eq!((pong.flags, pong.payload.as_slice()), (1, &b"payload!"[..]));
}

#[tokio::test]
async fn more_streams_at_once_than_a_client_may_open_are_refused_and_those_before_are_served() {
    let (upstream, gateway, files) = secure(Bounds { streams: count(3), ..Bounds::default() });
    let mut client = FrameClient::new(http2(gateway.address(), &files).await);
    client.begin().await;
    assert_eq!(client.event().await, Event::Settled);
    client.send([post(1), post(3), post(5), get(7)].concat()).await;
    assert_eq!(client.outcome(7).await, Event::Reset { stream: 7, code: REFUSED_STREAM });
    for stream in [1, 3, 5] {
        client.send(body(stream)).await;
        assert_eq!(client.outcome(stream).await, Event::Answer { stream, status: 200 });
    }
    client.send(get(9)).await;
    assert_eq!(client.outcome(9).await, Event::Answer { stream: 9, status: 200 });
    assert_eq!(upstream.requests().len(), 4);
}
