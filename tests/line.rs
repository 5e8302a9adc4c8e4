//! The life of a request, end to end: what passes, and that the upstream gets it as it was sent.

use tollgate::time::Clock;

use crate::support::gateway::{COMMENT, TestGateway, WORKSTATION, playbooks, token};
use crate::support::upstream::{Answer, RecordingUpstream};

#[tokio::test]
async fn a_call_that_passes_every_check_reaches_the_upstream_as_it_was_sent() {
    let upstream =
        RecordingUpstream::start(Answer::json(201, &serde_json::json!({"id":"action-1"})), Clock::System);
    let gateway = TestGateway::start(upstream.address());

    let token = token(&playbooks());
    let answer = gateway.connect().await.collect(&token, WORKSTATION, COMMENT).await;

    answer.assert_status(201);
    assert_eq!(answer.text(), r#"{"id":"action-1"}"#);
    assert_eq!(answer.header("Tollgate-Reason"), None);
    let requests = upstream.wait_for(1).await;
    assert_eq!(requests[0].path, format!("/api/machines/{WORKSTATION}/collectInvestigationPackage"));
    assert_eq!(requests[0].body, COMMENT.as_bytes());
    assert_eq!(requests[0].header("Authorization"), Some(&*format!("Bearer {token}")));
}
