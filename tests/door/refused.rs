//! What the HTTP library would refuse without a word of ours: it is counted, and in the audit, all the same.

use serde_json::Value;

use super::tls::{call, frames, secure_with};
use super::*;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, fields, frame};

/// The lines of an audit whose gateway has stopped.
fn lines(audit: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(audit).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_tunnel_over_http_2_is_refused_in_our_shape_counted_and_in_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let (upstream, gateway, files) = secure_with(|setup| setup.audit(&audit));
    let mut client = frames(&gateway, &files).await;
    let tunnel = call("CONNECT", "").into_iter().filter(|(name, _)| name != ":scheme" && name != ":path");
    let block = fields(&tunnel.collect::<Vec<_>>());
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    let body = loop {
        let frame = client.next().await.expect("an answer");
        if frame.kind == DATA {
            break frame.payload;
        }
    };
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["error"]["code"], "BadRequest", "{error}");
    expect_metric(&gateway, "tollgate_malformed_requests_total{kind=\"target\"} 1").await;
    gateway.stop();
    let lines = lines(&audit);
    let refused: Vec<_> = lines.iter().filter(|line| line["event"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{lines:?}");
    assert_eq!(refused[0]["reason"], "malformed_request");
    assert_eq!(refused[0]["address"], "127.0.0.1");
    assert_eq!(refused[0]["request_id"], error["error"]["target"]);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_the_library_refuses_over_http_1_and_no_rule_of_ours_is_counted_and_in_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).audit(&audit).start();
    let mut client = gateway.connect().await;
    client.send(list("").replace("/api/machines", "/api/machines?$filter=a<b")).await;
    client.read_response().await.assert_status(400);
    client.expect_close().await;
    expect_metric(&gateway, "tollgate_malformed_requests_total{kind=\"library\"} 1").await;
    gateway.stop();
    let lines = lines(&audit);
    let refused: Vec<_> = lines.iter().filter(|line| line["event"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{lines:?}");
    assert_eq!(
        (&refused[0]["reason"], &refused[0]["address"]),
        (&"malformed_request".into(), &"127.0.0.1".into())
    );
    assert!(upstream.requests().is_empty());
}
