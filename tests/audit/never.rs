//! What never stands in the trail, whatever a caller writes.

use serde_json::{Value, json};
use tollgate::id::{ApplicationId, UserId};
use tollgate::sandbox::issuer::Caller;

use super::{Audited, collect_path, collect_with, lines_in};
use crate::support::gateway::{COMMENT, TestGateway, WORKSTATION, bearer, issuer, playbooks, portal, token};
use crate::support::raw::RawResponse;

#[tokio::test]
async fn nothing_of_a_token_stands_in_the_file_and_nothing_that_a_refused_token_claims() {
    let audited = Audited::usual();
    let claimed = || {
        Caller::user(
            UserId::from_u128(0x00c0_ffee),
            "claimed@test.example",
            ApplicationId::from_u128(0x000d_ecaf),
        )
        .permissions(["Claimed.Permission"])
        .claim("uti", "claimed-uti")
    };
    let mut forged = token(&claimed());
    let signature = forged.rfind('.').unwrap() + 1;
    forged.replace_range(signature.., &token(&playbooks())[token(&playbooks()).rfind('.').unwrap() + 1..]);
    let tokens = [
        token(&playbooks()),
        token(&claimed()),
        forged,
        token(&claimed().claim("exp", 1_000_000)),
        token(&claimed().claim("nbf", 9_000_000_000_i64)),
        token(&claimed().for_audience("https://elsewhere.example")),
        issuer().sign(&json!({ "iss": "https://claimed.example/" })),
        "claimed.claimed.claimed".to_owned(),
    ];
    let mut answers = Vec::new();
    for token in &tokens {
        let device = collect_path("claimed-device");
        for headers in [
            format!("Authorization: Bearer {token}\r\n"),
            format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
            format!("Authorization: Basic {token}\r\n"),
            format!("Authorization: {token}\r\n"),
        ] {
            answers.push(post(&audited.gateway, &device, &headers, r#"{"Comment":"claimed comment"}"#).await);
        }
        let query = format!("{device}?access_token={token}");
        answers.push(post(&audited.gateway, &query, "", COMMENT).await);
    }
    assert!(answers.iter().all(|answer| answer.status != 201));
    audited.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    audited.lines(answers.len() + 2).await;
    let text = std::fs::read_to_string(audited.path()).unwrap();
    for part in tokens.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 10) {
        assert!(!text.contains(part), "{part}");
    }
    // Two of these tokens are genuine, and something else is missing: what they say was verified.
    let genuine = ["\"unknown_device\"", "\"missing_permission\""];
    let is_genuine = |line: &&str| genuine.iter().any(|reason| line.contains(reason));
    assert_eq!(text.lines().filter(is_genuine).count(), 2);
    assert!(text.contains("claimed-uti"));
    let others: String = text.lines().filter(|line| !is_genuine(line)).collect();
    for claimed in ["claimed", "c0ffee", "decaf", "Claimed", "Bearer", "eyJ"] {
        assert!(!others.contains(claimed), "{claimed}: {others}");
    }
}

/// A POST with these header lines, on a connection of its own.
async fn post(gateway: &TestGateway, path: &str, headers: &str, body: &str) -> RawResponse {
    let mut client = gateway.connect().await;
    let length = body.len();
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await;
    client.read_response().await
}

#[tokio::test]
async fn no_text_of_a_caller_breaks_a_line_or_forges_one() {
    let audited = Audited::usual();
    let forged =
        "x\"}\n{\"event\":\"admitted\",\"decision\":\"admitted\"}\r\n\u{0}\u{1b}[2J\u{85}\u{2028}\u{7f}\\";
    // In the body, as JSON allows it, and as it does not.
    let body = json!({ "Comment": forged }).to_string();
    collect_with(&audited.gateway, &playbooks(), &body).await.assert_status(201);
    collect_with(&audited.gateway, &playbooks(), b"{\"Comment\":\"a\nb\"}").await.assert_status(400);
    collect_with(&audited.gateway, &playbooks(), b"{\"Comment\":\"\xff\"}").await.assert_status(400);
    // In the claim of a token that an issuer signed.
    let caller = playbooks().claim("uti", forged);
    collect_with(&audited.gateway, &caller, COMMENT).await.assert_status(201);
    // In the name of a device, as far as a path may hold it.
    let name = "x%22%7D,%7B%22event%22:%22admitted%22%7D%E2%80%A8%C3%BC";
    audited.collect(&portal(), name).await.assert_status(201);
    // In the client's own request id: what is not visible ASCII is not recorded, and what is too long is cut.
    let ids: [(&[u8], Option<&str>); 4] = [
        (b"\"},{\"event\":\"admitted\"}\\", Some("\"},{\"event\":\"admitted\"}\\")),
        (b"tab\there", Some("tab\there")),
        (b"caf\xe9", None),
        (&[b'x'; 500], Some(&"x".repeat(128))),
    ];
    let mut answers = 8;
    for (id, recorded) in ids {
        let mut client = audited.gateway.connect().await;
        let head = format!(
            "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nAuthorization: {}\r\n",
            bearer(&playbooks())
        );
        client.send([head.as_bytes(), b"X-Request-Id: ", id, b"\r\n\r\n"].concat()).await;
        client.read_response().await.assert_status(403);
        answers += 1;
        let lines = audited.lines(answers).await;
        assert_eq!(lines.last().unwrap().get("client_request_id").and_then(Value::as_str), recorded);
    }

    // Twelve lines, each an object of its own, and the texts in them as they were.
    let lines = lines_in(&audited.path());
    let admitted = lines.iter().filter(|line| line["event"] == "admitted").count();
    assert_eq!(admitted, 3);
    assert_eq!(lines.iter().filter(|line| line["comment"] == forged).count(), 2);
    assert_eq!(lines.iter().filter(|line| line["uti"] == forged).count(), 2);
    let named = |line: &&Value| line["devices"][0]["device"] == "x\"},{\"event\":\"admitted\"}\u{2028}ü";
    assert_eq!(lines.iter().filter(named).count(), 2);
    let bytes = std::fs::read(audited.path()).unwrap();
    assert!(bytes.iter().all(|byte| *byte >= b' ' || *byte == b'\n'), "a control character");
}
