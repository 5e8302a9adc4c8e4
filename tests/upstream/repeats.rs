//! Which calls are sent to the upstream again: those that it did not take, and no other.

use h2::Reason;
use tollgate::settings::Versions;

use super::http2::{SecureUpstream, Then};
use super::*;
use crate::support::raw::RawResponse;

/// One call by each of these methods.
async fn call(gateway: &TestGateway, method: &str) -> RawResponse {
    match method {
        "GET" => gateway.get(&portal(), PACKAGE).await,
        _ => gateway.collect(&playbooks(), WORKSTATION).await,
    }
}

#[tokio::test]
async fn a_call_on_a_kept_connection_that_turns_out_dead_is_sent_once_whatever_its_method() {
    for method in ["GET", "POST"] {
        for (what, answer) in [
            ("no byte of an answer", Answer::new(200, "").ending(Ending::CloseBefore)),
            ("a part of its header", Answer::raw("HTTP/1.1 200 OK\r\nContent-").ending(Ending::CloseAfter)),
        ] {
            let (upstream, gateway) = start(Answer::new(200, ""));
            call(&gateway, method).await.assert_status(200);
            upstream.answer_next(answer);
            let failed = call(&gateway, method).await;
            assert_eq!(reason(&failed), (502, Some("upstream_unavailable")), "{method}, {what}");
            let seen = upstream.requests();
            assert_eq!(seen.len(), 2, "{method}, {what}");
            // It was the kept one, and the call may have been done.
            assert!(seen.iter().all(|request| request.connection == 1), "{method}, {what}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_the_upstream_refuses_to_begin_with_is_sent_again_and_charged_once() {
    let upstream = SecureUpstream::start().await;
    let gateway = upstream.gateway(Versions::Http2OrHttp1);
    for method in ["GET", "POST"] {
        let left = call(&gateway, method).await.remaining();
        upstream.then(Then::Reset(Reason::REFUSED_STREAM));
        let answer = call(&gateway, method).await;
        assert_eq!((answer.status, answer.remaining()), (200, left - 1), "{method}");
    }
    let seen: Vec<_> = upstream.seen().into_iter().map(|request| (request.method, request.body)).collect();
    let (get, post) = (("GET".to_owned(), Vec::new()), ("POST".to_owned(), COMMENT.as_bytes().to_vec()));
    assert_eq!(seen, [get.clone(), get.clone(), get, post.clone(), post.clone(), post]);
}
