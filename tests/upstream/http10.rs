//! Clients of HTTP/1.0: what an upstream sends in chunks reaches them without, and ends with the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::support::within_deadline;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";

/// All that comes of a GET by HTTP/1.0, and the error that ends it if it does not end in order.
async fn get(gateway: &TestGateway, lines: &str) -> (String, std::io::Result<usize>) {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let authorization = bearer(&portal());
    let request = format!(
        "GET /api/machines HTTP/1.0\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = within_deadline("the end of the connection", stream.read_to_end(&mut bytes)).await;
    (String::from_utf8(bytes).unwrap(), end)
}

#[track_caller]
fn assert_unchunked(answer: &str, body: &str) {
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{answer}");
    assert!(!head.contains("transfer-encoding") && head.contains("connection: close"), "{answer}");
    assert_eq!(rest, body);
}

#[tokio::test]
async fn a_chunked_answer_reaches_a_client_of_http_1_0_without_chunks_and_ends_with_the_connection() {
    let (upstream, gateway) = start(Answer::raw(format!("{CHUNKED}6\r\nsix by\r\n3\r\nte!\r\n0\r\n\r\n")));
    for lines in ["", "Connection: keep-alive\r\n", "Expect: 100-continue\r\n"] {
        let (answer, end) = get(&gateway, lines).await;
        assert_unchunked(&answer, "six byte!");
        end.unwrap();
    }
    // One that has no length at all would be sent on in chunks, too.
    upstream.answer_always(Answer::raw("HTTP/1.1 200 OK\r\n\r\nto the end").ending(Ending::CloseAfter));
    let (answer, end) = get(&gateway, "Connection: keep-alive\r\n").await;
    assert_unchunked(&answer, "to the end");
    end.unwrap();
    // And one whose links are changed, since its length is.
    let page = r#"{"@odata.nextLink":"https://api.example/api/machines?$skip=1"}"#;
    let upstream = RecordingUpstream::start(Answer::new(200, page), Clock::System);
    let gateway = Setup::new(upstream.address()).public_url("https://gate.example").start();
    let (answer, end) = get(&gateway, "").await;
    assert_unchunked(&answer, &page.replace("api.example", "gate.example"));
    end.unwrap();
}

#[tokio::test]
async fn an_answer_of_known_length_keeps_the_connection_of_a_client_of_http_1_0_that_asks_for_it() {
    let (_upstream, gateway) = start(Answer::new(200, "nine byte"));
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        let authorization = bearer(&portal());
        let head =
            format!("GET /api/machines HTTP/1.0\r\nHost: gateway\r\nAuthorization: {authorization}\r\n");
        client.send(head + "Connection: keep-alive\r\n\r\n").await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("keep-alive")));
        assert_eq!(answer.text(), "nine byte");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_cannot_take_an_answer_that_breaks_off_for_a_whole_one() {
    let (_upstream, gateway) =
        start(Answer::raw(format!("{CHUNKED}4\r\nhalf\r\n")).ending(Ending::CloseAfter));
    let (answer, end) = get(&gateway, "").await;
    assert!(end.is_err(), "{answer}");
}

#[tokio::test]
async fn nothing_comes_before_the_answer_to_a_client_of_http_1_0() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let (_upstream, gateway) =
        start(Answer::raw(format!("{early}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")));
    let (answer, _) = get(&gateway, "").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nbody"), "{answer}");
}
