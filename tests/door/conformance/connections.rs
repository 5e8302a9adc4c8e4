//! Frames, streams and windows: RFC 9113, sections 3.4 to 6.

use super::*;
use crate::support::frames::{
    ACK, CONTINUATION, GOAWAY, PADDED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    WITH_PRIORITY,
};

/// A kind that no RFC knows.
const UNKNOWN: u8 = 0xf0;

// Settings (section 6.5.2).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// More than a window may ever be.
const TOO_LARGE: u32 = 1 << 31;

fn word(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// A block in three frames.
fn in_pieces(stream: u32) -> Vec<Vec<u8>> {
    let block = block();
    vec![
        frame(HEADERS, END_STREAM, stream, &block[..5]),
        frame(CONTINUATION, 0, stream, &block[5..30]),
        frame(CONTINUATION, END_HEADERS, stream, &block[30..]),
    ]
}

/// A block that was begun, and what stands where it should go on.
fn broken_off(instead: Vec<u8>) -> Vec<Vec<u8>> {
    let block = block();
    vec![
        frame(HEADERS, END_STREAM, 1, &block[..30]),
        instead,
        frame(CONTINUATION, END_HEADERS, 1, &block[30..]),
    ]
}

/// A call whose block ends in these bytes.
fn with_block_end(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&block(), bytes].concat())]
}

/// A call whose block begins with these bytes.
fn with_block_begin(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[bytes, &block()].concat())]
}

#[tokio::test]
async fn a_connection_begins_with_its_preface_and_settings() {
    let raw = |name, bytes: Vec<u8>, outcome| Case { name, bytes, stream: 1, outcome };
    run(vec![
        raw("the preface", [MAGIC.to_vec(), settings(&[]), get(1)].concat(), Served),
        raw("another preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(), Closed),
        raw("HTTP/1.1", b"GET /api/machines HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(), Closed),
        raw("a call before settings", [MAGIC.to_vec(), get(1)].concat(), Served),
        raw(
            "an acknowledgement before settings",
            [MAGIC.to_vec(), frame(SETTINGS, ACK, 0, b""), get(1)].concat(),
            Served,
        ),
    ])
    .await;
}

#[tokio::test]
async fn frames_have_their_sizes_and_unknown_ones_are_passed_over() {
    let long = frame(DATA, END_STREAM, 1, &[b'a'; 65_537]);
    run(vec![
        case("4.1: an unknown kind", &[frame(UNKNOWN, 0xff, 0, b"?"), get(1)], Served),
        case(
            "4.1: flags that mean nothing",
            &[frame(HEADERS, END_HEADERS | END_STREAM | 0xd2, 1, &block())],
            Served,
        ),
        case(
            "4.1: a reserved bit",
            &[frame(HEADERS, END_HEADERS | END_STREAM, 1 | TOO_LARGE, &block())],
            Served,
        ),
        case(
            "4.2: DATA as large as the window",
            &[post(1), frame(DATA, END_STREAM, 1, &[b'a'; 65_535])],
            Served,
        ),
        case("4.2: DATA of more", &[post(1), long], Connection(FRAME_SIZE_ERROR)),
        case(
            "4.2: HEADERS of more",
            &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&block()[..], &[0x84; 65_537]].concat())],
            Connection(FRAME_SIZE_ERROR),
        ),
        case("4.2: SETTINGS of more", &[frame(SETTINGS, 0, 0, &[0; 65_538])], Connection(FRAME_SIZE_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn a_header_block_is_whole_in_one_piece_or_several_and_nothing_stands_between() {
    run(vec![
        case("4.3: in pieces", &in_pieces(1), Served),
        case("4.3: an empty piece", &broken_off(frame(CONTINUATION, 0, 1, b"")), Served),
        case(
            "4.3: PRIORITY between",
            &broken_off(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
            Connection(PROTOCOL_ERROR),
        ),
        case("4.3: DATA between", &broken_off(frame(DATA, 0, 1, b"x")), Connection(PROTOCOL_ERROR)),
        case("4.3: SETTINGS between", &broken_off(settings(&[])), Connection(PROTOCOL_ERROR)),
        case("4.3: PING between", &broken_off(frame(PING, 0, 0, b"payload!")), Connection(PROTOCOL_ERROR)),
        case(
            "4.3: an unknown kind between",
            &broken_off(frame(UNKNOWN, 0, 0, b"")),
            Connection(PROTOCOL_ERROR),
        ),
        case("4.3: another call between", &broken_off(get(3)), Connection(PROTOCOL_ERROR)),
        case(
            "4.3: another stream's piece",
            &broken_off(frame(CONTINUATION, END_HEADERS, 3, &block())),
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10: a piece of no block",
            &[frame(CONTINUATION, END_HEADERS, 1, &block())],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10: a piece after the last",
            &[post(1), frame(CONTINUATION, END_HEADERS, 1, &block())],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10: a piece on stream 0",
            &broken_off(frame(CONTINUATION, END_HEADERS, 0, &block())),
            Connection(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_header_block_that_cannot_be_decoded_ends_the_connection() {
    run(vec![
        case("RFC 7541, 2.3.3: index 0", &with_block_end(&[0x80]), Vague(COMPRESSION_ERROR)),
        case("2.3.3: an index of no table", &with_block_end(&[0xfe]), Vague(COMPRESSION_ERROR)),
        case("2.3.3: a name of no table", &with_block_end(&[0x7e, 1, b'x']), Vague(COMPRESSION_ERROR)),
        case("4.2: a table's size at the beginning", &with_block_begin(&[0x20]), Served),
        case("4.2: a table's size at the end", &with_block_end(&[0x20]), Vague(COMPRESSION_ERROR)),
        case(
            "4.2: a table larger than allowed",
            &with_block_begin(&[0x3f, 0xe2, 0x1f]),
            Vague(COMPRESSION_ERROR),
        ),
        case(
            "5.1: a number without an end",
            &with_block_end(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            Vague(COMPRESSION_ERROR),
        ),
        case("5.2: a name cut off", &with_block_end(&[0, 5, b'x']), Vague(COMPRESSION_ERROR)),
        case("5.2: a value cut off", &with_block_end(&[0, 1, b'x', 5, b'y']), Vague(COMPRESSION_ERROR)),
        case(
            "5.2: Huffman's end of string",
            &with_block_end(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Vague(COMPRESSION_ERROR),
        ),
        case(
            "5.2: padding that is not all ones",
            &with_block_end(&[0, 1, b'x', 0x81, 0b0001_1000]),
            Vague(COMPRESSION_ERROR),
        ),
        case(
            "5.2: padding of more than 7 bits",
            &with_block_end(&[0, 1, b'x', 0x82, 0b0001_1111, 0xff]),
            Vague(COMPRESSION_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn streams_are_opened_once_in_their_order_and_used_while_they_are_open() {
    let reset = |stream| frame(RST_STREAM, 0, stream, &word(8));
    let window = |stream| frame(WINDOW_UPDATE, 0, stream, &word(1));
    let other = |case: Case, stream| Case { stream, ..case };
    run(vec![
        case("5.1: DATA on an idle stream", &[body(1)], Connection(PROTOCOL_ERROR)),
        case("5.1: RST_STREAM on an idle stream", &[reset(1)], Connection(PROTOCOL_ERROR)),
        case("5.1: WINDOW_UPDATE on an idle stream", &[window(1)], Connection(PROTOCOL_ERROR)),
        case("5.1: PRIORITY on an idle stream", &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]), get(1)], Served),
        case("5.1: DATA after the end", &[post(1), body(1), body(1)], Vague(STREAM_CLOSED)),
        case("5.1: HEADERS after the end", &[post(1), body(1), get(1)], Vague(STREAM_CLOSED)),
        case("5.1: DATA after a reset", &[post(1), reset(1), body(1)], Stream(STREAM_CLOSED)),
        case("5.1: HEADERS after a reset", &[post(1), reset(1), get(1)], Vague(STREAM_CLOSED)),
        other(
            case(
                "5.1: WINDOW_UPDATE and RST_STREAM after a reset",
                &[post(1), reset(1), window(1), reset(1), get(3)],
                Served,
            ),
            3,
        ),
        case("5.1.1: an even stream", &[get(2)], Connection(PROTOCOL_ERROR)),
        other(case("5.1.1: a stream below the last", &[get(5), get(3)], Connection(PROTOCOL_ERROR)), 3),
        other(case("5.1.1: streams left out", &[get(7)], Served), 7),
        case(
            "5.3: HEADERS with a priority",
            &[frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 0, 16], &block()[..]].concat(),
            )],
            Served,
        ),
        case(
            "5.3: a stream that depends on itself",
            &[frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 16], &block()[..]].concat(),
            )],
            Stream(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn each_kind_of_frame_has_its_length_its_stream_and_its_values() {
    let set = |id, value| settings(&[(id, value)]);
    run(vec![
        case("6.1: DATA on stream 0", &[frame(DATA, 0, 0, b"x")], Connection(PROTOCOL_ERROR)),
        case("6.1: padded DATA", &[post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x03abc\0\0\0")], Served),
        case(
            "6.1: DATA of more padding than there is",
            &[post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x07abc\0\0\0")],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.1: padded DATA without a length",
            &[post(1), frame(DATA, END_STREAM | PADDED, 1, b"")],
            Vague(FRAME_SIZE_ERROR),
        ),
        case(
            "6.2: HEADERS on stream 0",
            &[frame(HEADERS, END_HEADERS | END_STREAM, 0, &block())],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.2: padded HEADERS",
            &[frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[2], &block()[..], &[0, 0]].concat())],
            Served,
        ),
        case(
            "6.2: HEADERS of more padding than there is",
            &[frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x09abc")],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.3: PRIORITY on stream 0",
            &[frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 16])],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.3: PRIORITY of 4 bytes",
            &[post(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0])],
            Vague(FRAME_SIZE_ERROR),
        ),
        case("6.4: RST_STREAM on stream 0", &[frame(RST_STREAM, 0, 0, &word(8))], Connection(PROTOCOL_ERROR)),
        case(
            "6.4: RST_STREAM of 3 bytes",
            &[post(1), frame(RST_STREAM, 0, 1, b"abc")],
            Vague(FRAME_SIZE_ERROR),
        ),
        case(
            "6.5: an acknowledgement that says something",
            &[frame(SETTINGS, ACK, 0, &[0; 6])],
            Vague(FRAME_SIZE_ERROR),
        ),
        case("6.5: SETTINGS on a stream", &[frame(SETTINGS, 0, 1, b"")], Connection(PROTOCOL_ERROR)),
        case("6.5: SETTINGS of 5 bytes", &[frame(SETTINGS, 0, 0, &[0; 5])], Vague(FRAME_SIZE_ERROR)),
        case("6.5.2: ENABLE_PUSH of 2", &[set(ENABLE_PUSH, 2)], Connection(PROTOCOL_ERROR)),
        case(
            "6.5.2: an INITIAL_WINDOW_SIZE of 2^31",
            &[set(INITIAL_WINDOW_SIZE, TOO_LARGE)],
            Vague(FLOW_CONTROL_ERROR),
        ),
        case("6.5.2: a MAX_FRAME_SIZE of 16,383", &[set(MAX_FRAME_SIZE, 16_383)], Connection(PROTOCOL_ERROR)),
        case("6.5.2: a MAX_FRAME_SIZE of 2^24", &[set(MAX_FRAME_SIZE, 1 << 24)], Connection(PROTOCOL_ERROR)),
        case("6.5.2: a setting that nobody knows", &[set(0xfefe, 1), get(1)], Served),
        case(
            "6.6: a promise",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &[&word(2)[..], &block()].concat())],
            Connection(PROTOCOL_ERROR),
        ),
        case("6.7: PING on a stream", &[frame(PING, 0, 1, &[0; 8])], Connection(PROTOCOL_ERROR)),
        case("6.7: PING of 6 bytes", &[frame(PING, 0, 0, &[0; 6])], Vague(FRAME_SIZE_ERROR)),
        case("6.7: an answer to no PING", &[frame(PING, ACK, 0, &[0; 8]), get(1)], Served),
        case("6.8: GOAWAY on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], Connection(PROTOCOL_ERROR)),
        case("6.8: GOAWAY of 7 bytes", &[frame(GOAWAY, 0, 0, &[0; 7])], Vague(FRAME_SIZE_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn windows_grow_by_something_and_never_past_their_bound() {
    let grow = |stream, by| frame(WINDOW_UPDATE, 0, stream, &word(by));
    let piece = |last| frame(DATA, last, 1, &[b'a'; 16_000]);
    run(vec![
        case("6.9: WINDOW_UPDATE of 3 bytes", &[frame(WINDOW_UPDATE, 0, 0, b"abc")], Vague(FRAME_SIZE_ERROR)),
        case("6.9: the connection's by nothing", &[grow(0, 0)], Connection(PROTOCOL_ERROR)),
        case("6.9: a stream's by nothing", &[post(1), grow(1, 0)], Connection(PROTOCOL_ERROR)),
        case(
            "6.9.1: the connection's past its bound",
            &[grow(0, TOO_LARGE - 1)],
            Connection(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.1: a stream's past its bound",
            &[post(1), grow(1, TOO_LARGE - 1)],
            Stream(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.2: a stream's past its bound, by a setting",
            &[post(1), grow(1, TOO_LARGE - 1 - 65_535), settings(&[(INITIAL_WINDOW_SIZE, 65_536)])],
            Connection(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.2: none, and then some",
            &[settings(&[(INITIAL_WINDOW_SIZE, 0)]), get(1), settings(&[(INITIAL_WINDOW_SIZE, 9)])],
            Served,
        ),
        case(
            "6.9.1: a body within the window",
            &[post(1), piece(0), piece(0), piece(0), piece(END_STREAM)],
            Served,
        ),
    ])
    .await;
}
