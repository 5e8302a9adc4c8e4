//! HTTP/2 clients that make work and take nothing (CVE-2023-44487, CVE-2024-27316): their connection ends, and others
//! never notice.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::{PREFACE, http2, rest, secure};
use super::*;
use crate::support::frames::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame};
use crate::support::within_deadline;

/// `GET https://gateway/api/machines` (RFC 7541: fields of the static table, two with a value of their own).
fn request() -> Vec<u8> {
    let value =
        |index: u8, value: &str| [&[index, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [vec![0x82, 0x87], value(0x01, "gateway"), value(0x04, "/api/machines")].concat()
}

async fn expect_end(mut stream: TlsStream<TcpStream>, flood: Vec<u8>) {
    // It may be cut off in the middle.
    let _ = within_deadline("a flood", stream.write_all(&[PREFACE, &flood].concat())).await;
    within_deadline("the end of the connection", rest(stream)).await;
}

#[tokio::test]
async fn streams_that_are_reset_as_soon_as_they_are_opened_end_their_connection() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let stream = http2(gateway.address(), &files).await;
    let streams = (0..1_000).map(|index| 2 * index + 1);
    let flood = streams.flat_map(|stream| {
        let opened = frame(HEADERS, END_STREAM | END_HEADERS, stream, &request());
        [opened, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    expect_end(stream, flood.collect()).await;
    settled(&gateway).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_header_that_never_ends_ends_its_connection() {
    let (_upstream, gateway, files) = secure(Bounds::default());
    let stream = http2(gateway.address(), &files).await;
    let mut flood = frame(HEADERS, END_STREAM, 1, &request());
    // A field of the static table again and again: one byte on the wire, and some fifty in memory.
    (0..64).for_each(|_| flood.extend(frame(CONTINUATION, 0, 1, &[0x90; 16_000])));
    expect_end(stream, flood).await;
    settled(&gateway).await;
}
