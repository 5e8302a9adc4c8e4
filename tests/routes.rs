//! Which request line asks for which operation, which for none, and which is refused before anybody asks.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tollgate::source::PolicyFiles;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, Setup, TestGateway, WORKSTATION, bearer, playbooks, policy_with, portal,
};
use crate::support::upstream::{Answer, RecordingUpstream};

/// The operations of the tests, and one whose literal stands where another has a device.
fn with_export() -> PolicyFiles {
    let export = r#"
        [[operation]]
        name        = "export"
        method      = "GET"
        path        = "/api/machines/SoftwareInventoryExport"
        application = ["Machine.Read.All"]
        delegated   = []
        limits      = []
    "#;
    policy_with("operations.toml", &(include_str!("support/policy/operations.toml").to_owned() + export))
}

/// The lines of the audit that were written before a call was forwarded, or because it was refused.
fn decisions(audit: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "admitted" || line["event"] == "refused").collect()
}

#[tokio::test]
async fn a_request_line_asks_for_one_operation_or_for_none() {
    let workstation = &format!("/api/machines/{WORKSTATION}");
    let older = &workstation.replacen("/api", "/api/v1.0", 1);
    let capitals = &workstation.to_uppercase();
    let nested = &format!("/api/machines/{WORKSTATION}/collectInvestigationPackage/more");
    let table: &[(&str, &str, &str, Option<&str>)] = &[
        ("as documented", "GET", workstation, Some("read_device")),
        ("in capitals", "GET", capitals, Some("read_device")),
        ("with the version of the API", "GET", older, Some("read_device")),
        ("with the version in capitals", "GET", "/API/V1.0/MACHINES", Some("list_devices")),
        ("without a device", "GET", "/api/machines", Some("list_devices")),
        ("with a query", "GET", "/api/machines?$top=1", Some("list_devices")),
        ("with an empty query", "GET", "/api/machines?", Some("list_devices")),
        ("with a query like a path", "GET", "/api/machines?/../x//y%2f%00/./..\\", Some("list_devices")),
        ("with a query like another path", "GET", "/api/machines?a=/api/machines/1", Some("list_devices")),
        ("with two question marks", "GET", "/api/machines?a?b", Some("list_devices")),
        (
            "a literal where others have a device",
            "GET",
            "/api/machines/SoftwareInventoryExport",
            Some("export"),
        ),
        ("that literal in capitals", "GET", "/api/machines/SOFTWAREINVENTORYEXPORT", Some("export")),
        ("more than that literal", "GET", "/api/machines/SoftwareInventoryExports", Some("read_device")),
        ("a device with an encoded hyphen", "GET", "/api/machines/ws%2D1.test.example", Some("read_device")),
        ("a device with an encoded space", "GET", "/api/machines/a%20b", Some("read_device")),
        ("that literal with an encoded letter", "GET", "/api/machines/SoftwareInventory%45xport", None),
        ("a literal with an encoded letter", "GET", "/api/%6dachines", None),
        ("a device with a semicolon", "GET", "/api/machines/a;b", None),
        ("a device with an encoded semicolon", "GET", "/api/machines/a%3Bb", None),
        ("a device with an encoded question mark", "GET", "/api/machines/a%3Fb", None),
        ("a device with an encoded line feed", "GET", "/api/machines/a%0Ab", None),
        ("a device that is not UTF-8", "GET", "/api/machines/%FF", None),
        ("with a slash at the end", "GET", "/api/machines/", None),
        ("with more at the end", "GET", nested, None),
        ("with the version twice", "GET", "/api/v1.0/v1.0/machines", None),
        ("with another version", "GET", "/api/v2.0/machines", None),
        ("with the version alone", "GET", "/v1.0/machines", None),
        ("the root", "GET", "/", None),
        ("another path", "GET", "/api/alerts", None),
        ("a known path with POST", "POST", "/api/machines", None),
        ("a known path with DELETE", "DELETE", workstation, None),
        ("a known path with PUT", "PUT", "/api/machines", None),
        ("a known path with OPTIONS", "OPTIONS", "/api/machines", None),
        ("a known path with HEAD", "HEAD", "/api/machines", None),
        ("a known path with a method of nobody's", "FETCH", "/api/machines", None),
        ("a known path with a method in small letters", "get", "/api/machines", None),
    ];
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(with_export()).audit(&audit).start();
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    for (what, method, target, operation) in table {
        let answer = client.request(method, target, &[("Authorization", &authorization)], "").await;
        let (status, reason) = match operation {
            Some(_) => (200, None),
            None => (404, Some("no_operation")),
        };
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (status, reason), "{what}");
    }
    gateway.stop();
    let asked: Vec<_> =
        decisions(&audit).iter().map(|line| line["operation"].as_str().map(str::to_owned)).collect();
    let expected: Vec<_> = table.iter().map(|(.., operation)| operation.map(str::to_owned)).collect();
    assert_eq!(asked, expected);
    let seen: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    let passed = table.iter().filter(|(.., operation)| operation.is_some());
    assert_eq!(seen, passed.map(|(_, _, target, _)| (*target).to_owned()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_device_is_decoded_once_before_its_group_is_looked_up() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = TestGateway::start(upstream.address());
    let authorization = bearer(&playbooks());
    let mut client = gateway.connect().await;
    for (device, status) in [
        ("ws-1.test.example", 200),
        ("WS-1", 200),
        ("%77s%2d1.test.example", 200),
        ("exec-1.test.example", 403),
        ("%65xec-1.test.example", 403),
        ("EXEC%2D1", 403),
    ] {
        let path = format!("/api/machines/{device}/collectInvestigationPackage");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = client.request("POST", &path, &headers, COMMENT).await;
        assert_eq!(answer.status, status, "{device}");
    }
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn what_could_mean_two_things_is_refused_and_closes_the_connection() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = TestGateway::start(upstream.address());
    let authorization = bearer(&portal());
    let line = |line: &str| format!("{line}\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\r\n");
    let target = |target: &str| line(&format!("GET {target} HTTP/1.1"));
    let headers = |headers: &str| {
        format!("GET /api/machines HTTP/1.1\r\nAuthorization: {authorization}\r\n{headers}\r\n")
    };
    let header = |header: &str| headers(&format!("Host: gateway\r\n{header}\r\n"));
    let body = |framing: &str, body: &str| {
        format!(
            "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n{body}"
        )
    };
    let table = [
        ("an empty segment at the beginning", target("//api/machines"), "path"),
        ("an empty segment", target("/api//machines"), "path"),
        ("empty segments at the end", target("/api/machines//"), "path"),
        ("a dot", target("/api/./machines"), "path"),
        ("a dot at the end", target("/api/machines/."), "path"),
        ("two dots", target("/api/x/../machines"), "path"),
        ("two dots at the end", target("/api/machines/x/.."), "path"),
        ("two encoded dots", target("/api/x/%2e%2E/machines"), "path"),
        ("one dot of two encoded", target("/api/x/.%2e/machines"), "path"),
        ("an encoded slash", target("/api%2fmachines"), "path"),
        ("an encoded slash in capitals", target("/api/machines/a%2Fb"), "path"),
        ("a backslash", target("/api\\machines"), "path"),
        ("an encoded backslash", target("/api/machines/a%5cb"), "path"),
        ("an encoded zero", target("/api/machines%00"), "path"),
        ("an encoding of an encoding", target("/api/machines/a%252fb"), "path"),
        ("a percent sign without digits", target("/api/machines/%zz"), "path"),
        ("a percent sign at the end", target("/api/machines/%"), "path"),
        ("a target in absolute form", target("http://gateway/api/machines"), "target"),
        ("one for another host", target("http://elsewhere/api/machines"), "target"),
        ("one with a user", target("http://user@gateway/api/machines"), "target"),
        ("a target that is a host", target("gateway:80"), "target"),
        ("a target without its first slash", target("api/machines"), "target"),
        ("a star", line("OPTIONS * HTTP/1.1"), "target"),
        ("two spaces before the target", line("GET  /api/machines HTTP/1.1"), "target"),
        ("a tab before the target", line("GET\t/api/machines HTTP/1.1"), "request_line"),
        ("a letter beyond ASCII", target("/api/machines/\u{e4}"), "target"),
        ("two versions", line("GET /api/machines HTTP/1.1 HTTP/1.1"), "request_line"),
        ("no version", line("GET /api/machines"), "request_line"),
        ("a tunnel", line("CONNECT gateway:80 HTTP/1.1"), "request_line"),
        ("a line that ends in a line feed alone", headers("Host: gateway\nX-Other: 1\r\n"), "lines"),
        ("an end of the header in a line feed alone", headers("Host: gateway\r\n\n"), "lines"),
        ("no host", headers(""), "host"),
        ("two hosts", headers("Host: gateway\r\nHost: gateway\r\n"), "host"),
        ("two different hosts", headers("Host: gateway\r\nHost: elsewhere\r\n"), "host"),
        ("a host with a space before the colon", headers("Host : gateway\r\n"), "field"),
        ("a header of two lines", header("X-Folded: a\r\n b"), "field"),
        ("another method in a header", header("X-HTTP-Method: DELETE"), "override"),
        ("another method to override with", header("X-HTTP-Method-Override: DELETE"), "override"),
        ("another method, spelled otherwise", header("x-method-override: DELETE"), "override"),
        ("another path in a header", header("X-Original-URL: /api/alerts"), "override"),
        ("another path to rewrite to", header("X-REWRITE-URL: /api/alerts"), "override"),
        ("two lengths in one header", body("Content-Length: 2, 2", "{}"), "body_framing"),
        ("two lengths", body("Content-Length: 2\r\nContent-Length: 2", "{}"), "body_framing"),
        ("two different lengths", body("Content-Length: 2\r\nContent-Length: 3", "{}x"), "body_framing"),
        ("a length that is no number", body("Content-Length: +2", "{}"), "body_framing"),
        (
            "a length and chunks",
            body("Content-Length: 12\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
            "body_framing",
        ),
        (
            "a coding before the chunks",
            body("Transfer-Encoding: gzip, chunked", "2\r\n{}\r\n0\r\n\r\n"),
            "body_framing",
        ),
        ("a coding without chunks", body("Transfer-Encoding: gzip", "{}"), "body_framing"),
        ("a space within the target", target("/api/machines/a b"), "request_line"),
        ("a space in the query", target("/api/machines?$filter=a eq 'b'"), "request_line"),
        ("a space after the target", target("/api/machines "), "request_line"),
        ("a control character in the target", target("/api/machines/a\u{1}b"), "target"),
        ("a fragment", target("/api/machines#b"), "target"),
        ("a fragment behind a query", target("/api/machines?a#b"), "target"),
        ("a version of another number", line("GET /api/machines HTTP/1.2"), "request_line"),
        ("an empty line before", format!("\r\n{}", target("/api/machines")), "request_line"),
        ("a host with a user", headers("Host: user@gateway\r\n"), "host"),
        ("a control character in a value", header("X-Other: a\u{1}b"), "field"),
        ("a zero in a value", header("X-Other: a\0b"), "field"),
        ("a carriage return in a value", header("X-Other: a\rb"), "field"),
        ("a name with a space", header("X Other: a"), "field"),
        ("a line without a colon", header("X-Other"), "field"),
        (
            "chunks in HTTP/1.0",
            body("Transfer-Encoding: chunked", "").replace("HTTP/1.1", "HTTP/1.0"),
            "body_framing",
        ),
        (
            "a chunk with an extension",
            body("Transfer-Encoding: chunked", "2;a=b\r\n{}\r\n0\r\n\r\n"),
            "body_framing",
        ),
        (
            "chunks with a trailer",
            body("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\nX: y\r\n\r\n"),
            "body_framing",
        ),
        (
            "a chunk's size without CR",
            body("Transfer-Encoding: chunked", "2\n{}\r\n0\r\n\r\n"),
            "body_framing",
        ),
    ];
    let mut kinds = BTreeMap::<&str, usize>::new();
    let mut failures = Vec::new();
    for (what, request, kind) in table {
        *kinds.entry(kind).or_default() += 1;
        let mut client = gateway.connect().await;
        client.send(&request).await;
        let answer = String::from_utf8(client.read_to_end().await).unwrap();
        let ours = answer.to_lowercase().contains("\r\ntollgate-reason: malformed_request\r\n");
        if !answer.starts_with("HTTP/1.1 400 Bad Request\r\n") || !ours {
            failures.push(format!("{what}: {answer}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A call is counted once it is over, which may be after its caller has the answer.
    let metrics = &gateway.server().metrics;
    crate::support::until("the end of the calls", || metrics.requests_in_flight() == 0).await;
    for (kind, count) in kinds {
        let series = format!("tollgate_malformed_requests_total{{kind=\"{kind}\"}} {count}\n");
        let page = gateway.admin("/metrics").await;
        assert!(page.text().contains(&series), "{series}, got {}", page.text());
    }
    let seen = upstream.requests();
    assert!(seen.is_empty(), "{seen:?}");
}
