//! What curl says of HTTP/2: unlike most clients it does not overlook a stream that is reset after its answer.

use std::process::Command;

use serde_json::json;
use tollgate::time::Clock;

use super::wanted;
use crate::support::gateway::{COMMENT, EXECUTIVE, Setup, WORKSTATION, playbooks, token};
use crate::support::process::text;
use crate::support::tls::LocalCertificate;
use crate::support::upstream::{Answer, RecordingUpstream};

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_every_refusal_of_a_post_over_http_2_without_a_stream_error() {
    if !wanted(&["curl"]) {
        return;
    }
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System);
    let files = LocalCertificate::make();
    let gateway = Setup::new(upstream.address()).tls(files.files()).start();
    let token = token(&playbooks());
    let collect = |device| format!("/api/machines/{device}/collectInvestigationPackage");
    let body = |bytes: usize| format!(r#"{{"Comment":"{}"}}"#, "x".repeat(bytes));
    for (what, path, token, body, status) in [
        ("one that passes", collect(WORKSTATION), token.as_str(), COMMENT.to_owned(), "201 2"),
        ("a stranger's", collect(WORKSTATION), "none", COMMENT.to_owned(), "401 2"),
        ("a stranger's of 60 KiB", collect(WORKSTATION), "none", body(60 * 1_024), "401 2"),
        ("a stranger's of 200 KiB", collect(WORKSTATION), "none", body(200 * 1_024), "401 2"),
        ("one of an unknown path", "/api/nothing".to_owned(), &token, COMMENT.to_owned(), "404 2"),
        ("one for a device out of reach", collect(EXECUTIVE), &token, COMMENT.to_owned(), "403 2"),
        ("one without a comment", collect(WORKSTATION), &token, "{}".to_owned(), "400 2"),
        ("one that is too large", collect(WORKSTATION), &token, body(200 * 1_024), "413 2"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), body).unwrap();
        let output = Command::new("curl")
            .args([
                "-sS",
                "--noproxy",
                "*",
                "--http2",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{http_version}",
            ])
            .args(["--cacert", text(&files.ca_file()), "-H", "Content-Type: application/json"])
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .args(["--data-binary", &format!("@{}", text(file.path()))])
            .arg(format!("https://{}{path}", gateway.address()))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(said, [status, ""], "{what}");
    }
}
