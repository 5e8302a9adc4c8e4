//! Requests: RFC 9113, section 8.

use super::*;
use crate::support::frames::{CONTINUATION, RST_STREAM};

/// A call without a body whose fields were changed.
fn with(name: &'static str, change: impl FnOnce(&mut Vec<(String, String)>), outcome: Outcome) -> Case {
    let mut all = call("GET", "/api/machines");
    change(&mut all);
    case(name, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&all))], outcome)
}

/// With one more field at the end.
fn added(name: &'static str, field: &str, value: &str, outcome: Outcome) -> Case {
    with(name, |all| all.push((field.to_owned(), value.to_owned())), outcome)
}

/// With one more pseudo-header in front.
fn twice(name: &'static str, field: &str, value: &str, outcome: Outcome) -> Case {
    with(name, |all| all.insert(0, (field.to_owned(), value.to_owned())), outcome)
}

/// Without a field.
fn without(name: &'static str, field: &str, outcome: Outcome) -> Case {
    with(name, |all| all.retain(|(name, _)| name != field), outcome)
}

/// With another value of a field.
fn other(name: &'static str, field: &str, value: &str, outcome: Outcome) -> Case {
    let set = |all: &mut Vec<(String, String)>| {
        let at = all.iter().position(|(name, _)| name == field).unwrap();
        all[at].1 = value.to_owned();
    };
    with(name, set, outcome)
}

/// A call with a body, of which its head says this length.
fn sized(name: &'static str, length: &str, pieces: &[Vec<u8>], outcome: Outcome) -> Case {
    let mut all = call("POST", "/api/libraryfiles");
    all.push(("content-length".to_owned(), length.to_owned()));
    let head = frame(HEADERS, END_HEADERS, 1, &fields(&all));
    case(name, &[&[head], pieces].concat(), outcome)
}

/// A tunnel to a host (section 8.5): it has neither scheme nor path.
fn tunnel() -> Vec<(String, String)> {
    call("CONNECT", "").into_iter().filter(|(name, _)| name != ":scheme" && name != ":path").collect()
}

#[tokio::test]
async fn a_request_names_its_method_scheme_and_path_once_before_everything_else() {
    run(vec![
        with("8.3: as it should be", |_| {}, Served),
        added("8.3: one that nobody knows", ":unknown", "x", Connection(PROTOCOL_ERROR)),
        twice("8.3: one that nobody knows, in its place", ":unknown", "x", Connection(PROTOCOL_ERROR)),
        twice("8.3: a response's", ":status", "200", Stream(PROTOCOL_ERROR)),
        added("8.3: behind a field", ":path", "/api/machines", Stream(PROTOCOL_ERROR)),
        with("8.3: the path behind a field", |all| all.swap(3, 4), Stream(PROTOCOL_ERROR)),
        twice("8.3.1: two methods", ":method", "POST", Stream(PROTOCOL_ERROR)),
        twice("8.3.1: two schemes", ":scheme", "https", Stream(PROTOCOL_ERROR)),
        twice("8.3.1: two paths", ":path", "/api/alerts", Stream(PROTOCOL_ERROR)),
        twice("8.3.1: two authorities", ":authority", "elsewhere", Stream(PROTOCOL_ERROR)),
        without("8.3.1: no method", ":method", Stream(PROTOCOL_ERROR)),
        without("8.3.1: no scheme", ":scheme", Stream(PROTOCOL_ERROR)),
        without("8.3.1: no path", ":path", Stream(PROTOCOL_ERROR)),
        without("8.3.1: no authority, and no host", ":authority", Refused),
        other("8.3.1: an empty path", ":path", "", Stream(PROTOCOL_ERROR)),
        other("8.3.1: an asterisk", ":path", "*", Refused),
        other("8.3.1: no slash", ":path", "api/machines", Stream(PROTOCOL_ERROR)),
        other("8.3.1: an absolute path", ":path", "https://gateway/api/machines", Stream(PROTOCOL_ERROR)),
        other("8.3.1: a fragment", ":path", "/api/machines#x", Served),
        other("8.3.1: an authority with a user", ":authority", "user@gateway", Refused),
        other("8.3.1: an authority that is none", ":authority", "gate way", Stream(PROTOCOL_ERROR)),
        other("8.3.1: a method that is none", ":method", "GE T", Connection(PROTOCOL_ERROR)),
        added("8.3.1: a host that says the same", "host", "gateway", Served),
        added("8.3.1: another host", "host", "elsewhere", Refused),
        with("8.3.1: a host alone", |all| all[2].0 = "host".to_owned(), Stream(PROTOCOL_ERROR)),
        with("8.5: a tunnel's request as it must be", |all| *all = tunnel(), Refused),
        with("8.5: a tunnel with a path", |all| all[0].1 = "CONNECT".to_owned(), Stream(PROTOCOL_ERROR)),
        with(
            "RFC 8441: a protocol that was not offered",
            |all| {
                all[0].1 = "CONNECT".to_owned();
                all.insert(1, (":protocol".to_owned(), "websocket".to_owned()));
            },
            Stream(PROTOCOL_ERROR),
        ),
        twice("RFC 8441: a protocol without a tunnel", ":protocol", "websocket", Stream(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn a_request_has_no_field_that_belongs_to_a_connection_or_that_is_none() {
    run(vec![
        added("8.2.1: an upper-case name", "X-Upper", "x", Connection(PROTOCOL_ERROR)),
        added("8.2.1: an empty name", "", "x", Connection(PROTOCOL_ERROR)),
        added("8.2.1: a space in a name", "x y", "x", Connection(PROTOCOL_ERROR)),
        added("8.2.1: a colon in a name", "x:y", "x", Connection(PROTOCOL_ERROR)),
        added("8.2.1: a line in a name", "x\r\ny", "x", Connection(PROTOCOL_ERROR)),
        added("8.2.1: NUL in a value", "x", "a\0b", Connection(PROTOCOL_ERROR)),
        added("8.2.1: CR in a value", "x", "a\rb", Connection(PROTOCOL_ERROR)),
        added("8.2.1: LF in a value", "x", "a\nhost: b", Connection(PROTOCOL_ERROR)),
        added("8.2.1: a space before a value", "x", " a", Refused),
        added("8.2.1: a tab behind a value", "x", "a\t", Refused),
        added("8.2.2: connection", "connection", "keep-alive", Stream(PROTOCOL_ERROR)),
        added("8.2.2: keep-alive", "keep-alive", "1", Stream(PROTOCOL_ERROR)),
        added("8.2.2: proxy-connection", "proxy-connection", "keep-alive", Stream(PROTOCOL_ERROR)),
        added("8.2.2: transfer-encoding", "transfer-encoding", "chunked", Stream(PROTOCOL_ERROR)),
        added("8.2.2: upgrade", "upgrade", "h2c", Stream(PROTOCOL_ERROR)),
        added("8.2.2: te", "te", "gzip", Stream(PROTOCOL_ERROR)),
        added("8.2.2: te: trailers", "te", "trailers", Served),
        added("another method", "x-http-method-override", "DELETE", Refused),
    ])
    .await;
}

/// The same in two frames, the first of which ends within the last field.
fn cut(case: Case) -> Case {
    let head = MAGIC.len() + settings(&[]).len();
    let block = &case.bytes[head + 9..];
    let (first, rest) = block.split_at(block.len() - 2);
    let frames = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)];
    Case { bytes: [&case.bytes[..head], &frames.concat()].concat(), ..case }
}

#[tokio::test]
async fn a_request_is_held_to_the_same_in_whatever_pieces_its_header_comes() {
    let before = |name: &'static str, field: &str, value: &str| {
        let (field, value) = (field.to_owned(), value.to_owned());
        cut(with(name, |all| all.insert(4, (field, value)), Stream(PROTOCOL_ERROR)))
    };
    let long = "x".repeat(24_000);
    run(vec![
        cut(with("as it should be", |_| {}, Served)),
        cut(with("8.3: a path behind a field", |all| all.swap(3, 4), Stream(PROTOCOL_ERROR))),
        before("8.3.1: two paths", ":path", "/api/alerts"),
        before("8.3.1: two methods", ":method", "POST"),
        before("8.2.2: connection", "connection", "close"),
        before("8.2.2: transfer-encoding", "transfer-encoding", "chunked"),
        before("8.2.2: te", "te", "gzip"),
        added("a header larger than a frame that everybody takes", "x", &long, Served),
        cut(added("the same in two", "x", &long, Served)),
    ])
    .await;
}

#[tokio::test]
async fn a_body_has_the_length_that_its_request_says_and_ends_once() {
    let data = |last, text: &str| frame(DATA, last, 1, text.as_bytes());
    let trailers = |flags, all: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &fields(all));
    let mut get_of_5 = call("GET", "/api/machines");
    get_of_5.push(("content-length".to_owned(), "5".to_owned()));
    run(vec![
        sized("8.1.1: as long as it says", "6", &[data(0, "abc"), data(END_STREAM, "def")], Served),
        sized("8.1.1: shorter", "7", &[data(0, "abc"), data(END_STREAM, "def")], Stream(PROTOCOL_ERROR)),
        sized("8.1.1: longer", "5", &[data(0, "abc"), data(END_STREAM, "def")], Stream(PROTOCOL_ERROR)),
        sized("8.1.1: longer in one piece", "5", &[data(END_STREAM, "abcdef")], Stream(PROTOCOL_ERROR)),
        sized("8.1.1: none at all", "5", &[data(END_STREAM, "")], Stream(PROTOCOL_ERROR)),
        case(
            "8.1.1: none at all, and no DATA",
            &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&get_of_5))],
            Stream(PROTOCOL_ERROR),
        ),
        sized(
            "8.1.1: some where there should be none",
            "0",
            &[data(END_STREAM, "x")],
            Stream(PROTOCOL_ERROR),
        ),
        sized("8.1.1: none, as it says", "0", &[data(END_STREAM, "")], Served),
        sized(
            "8.1.1: more behind the last",
            "3",
            &[data(0, "abc"), data(END_STREAM, "d")],
            Stream(PROTOCOL_ERROR),
        ),
        sized("8.1.1: nothing behind the last", "3", &[data(0, "abc"), data(END_STREAM, "")], Served),
        sized("8.1.1: a length with a sign", "+6", &[data(END_STREAM, "abcdef")], Stream(PROTOCOL_ERROR)),
        sized("8.1.1: a list of lengths", "6, 6", &[data(END_STREAM, "abcdef")], Stream(PROTOCOL_ERROR)),
        sized("8.1.1: an empty length", "", &[data(END_STREAM, "abcdef")], Stream(PROTOCOL_ERROR)),
        case("8.1: trailers", &[post(1), data(0, "abc"), trailers(END_STREAM, &[("x-sum", "1")])], Served),
        case(
            "8.1: trailers that are not the end",
            &[post(1), data(0, "abc"), trailers(0, &[("x-sum", "1")])],
            Stream(PROTOCOL_ERROR),
        ),
        case(
            "8.1: a pseudo-header in trailers",
            &[post(1), data(0, "abc"), trailers(END_STREAM, &[(":path", "/")])],
            Served,
        ),
        case(
            "8.1: a length in trailers",
            &[post(1), data(0, "abc"), trailers(END_STREAM, &[("content-length", "1")])],
            Served,
        ),
        case(
            "8.1: an upper-case name in trailers",
            &[post(1), data(0, "abc"), trailers(END_STREAM, &[("X-Sum", "1")])],
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "8.1: a connection's field in trailers",
            &[post(1), data(0, "abc"), trailers(END_STREAM, &[("connection", "close")])],
            Stream(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_request_that_is_reset_after_its_last_byte_and_before_its_end_reaches_nobody_as_whole() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let mut client = FrameClient::new(http2(gateway.address(), &files).await);
    client.begin().await;
    for (stream, length, body) in [(1, "0", ""), (3, "3", "abc")] {
        let mut head = call("POST", "/api/libraryfiles");
        head.push(("content-length".to_owned(), length.to_owned()));
        client.send(frame(HEADERS, END_HEADERS, stream, &fields(&head))).await;
        client.send(frame(DATA, 0, stream, body.as_bytes())).await;
        until("the call", || gateway.server().metrics.requests_in_flight() == 1).await;
        // Time enough to pass on what there is.
        Clock::System.sleep(Duration::from_millis(50)).await;
        client.send(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        settled(&gateway).await;
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn trailers_go_no_further() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let mut client = FrameClient::new(http2(gateway.address(), &files).await);
    client.begin().await;
    let trailers = fields(&[("x-sum", "1"), ("content-length", "9"), ("authorization", "Bearer another")]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
    client.send([post(1), frame(DATA, 0, 1, b"abc"), trailers].concat()).await;
    assert_eq!(client.outcome(1).await, Event::Answer { stream: 1, status: 200 });
    let seen = upstream.wait_for(1).await.remove(0);
    assert_eq!(seen.body, b"abc");
    assert!(seen.raw.ends_with(b"\r\n0\r\n\r\n"), "{}", seen.raw.escape_ascii());
}

#[tokio::test]
async fn a_body_that_was_read_first_is_sent_once_also_with_trailers_behind_it() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let mut client = FrameClient::new(http2(gateway.address(), &files).await);
    client.begin().await;
    let json = r#"{"Comment":"once"}"#;
    let mut head = call("POST", "/api/indicators/import");
    head.push(("content-type".to_owned(), "application/json".to_owned()));
    let trailers = fields(&[("x-sum", "1")]);
    let frames = [
        frame(HEADERS, END_HEADERS, 1, &fields(&head)),
        frame(DATA, 0, 1, json.as_bytes()),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
    ];
    client.send(frames.concat()).await;
    assert_eq!(client.outcome(1).await, Event::Answer { stream: 1, status: 200 });
    assert_eq!(upstream.wait_for(1).await[0].body, json.as_bytes());
}
