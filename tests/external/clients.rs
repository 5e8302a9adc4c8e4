//! What callers are made of: Python's httpx and aiohttp and Node's fetch, over HTTP/1.1, HTTP/2 and TLS.

use std::process::Command;

use serde_json::json;
use tollgate::time::Clock;

use super::wanted;
use crate::support::gateway::{COMMENT, EXECUTIVE, Setup, TestGateway, WORKSTATION, playbooks, token};
use crate::support::process::text;
use crate::support::tls::LocalCertificate;
use crate::support::upstream::{Answer, RecordingUpstream};

/// Debian's own, which finds Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

/// Two calls on one connection that pass, one with a body of unknown length, and two that are refused.
const HTTPX: &str = r#"
import httpx, sys
base, ca, token, path, elsewhere, body, http2 = sys.argv[1:]
verify = ca or True
with httpx.Client(http2=http2 == "2", verify=verify, trust_env=False, base_url=base) as client:
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    for url, content in [(path, body), (path, body), (path, iter([body.encode()])), (elsewhere, body)]:
        answer = client.post(url, content=content, headers=headers)
        print(answer.http_version, answer.status_code, answer.headers.get("tollgate-reason"))
    answer = client.get("/api/machines/" + path.split("/")[3], headers=headers)
    print(answer.http_version, answer.status_code, answer.headers.get("tollgate-reason"))
"#;

/// The same, and one that waits for `100 Continue`.
const AIOHTTP: &str = r#"
import aiohttp, asyncio, ssl, sys
base, ca, token, path, elsewhere, body, _ = sys.argv[1:]
async def pieces():
    yield body.encode()
async def main():
    context = ssl.create_default_context(cafile=ca) if ca else None
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        for url, data, waits in [(path, body, False), (path, body, True), (path, pieces(), False), (elsewhere, body, False)]:
            async with session.post(base + url, data=data, expect100=waits) as answer:
                await answer.read()
                print(f"HTTP/{answer.version.major}.{answer.version.minor}", answer.status, answer.headers.get("tollgate-reason"))
        async with session.get(base + "/api/machines/" + path.split("/")[3]) as answer:
            print(f"HTTP/{answer.version.major}.{answer.version.minor}", answer.status, answer.headers.get("tollgate-reason"))
asyncio.run(main())
"#;

/// The same; fetch does not say which version it spoke.
const FETCH: &str = r#"
const [base, , token, path, elsewhere, body] = process.argv.slice(1);
const headers = { Authorization: "Bearer " + token, "Content-Type": "application/json" };
const stream = () => new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode(body)); c.close(); } });
(async () => {
  for (const [url, content, more] of [[path, body, {}], [path, body, {}], [path, stream(), { duplex: "half" }], [elsewhere, body, {}]]) {
    const answer = await fetch(base + url, { method: "POST", headers, body: content, ...more });
    await answer.text();
    console.log("HTTP/1.1", answer.status, answer.headers.get("tollgate-reason") ?? "None");
  }
  const answer = await fetch(base + "/api/machines/" + path.split("/")[3], { headers });
  await answer.text();
  console.log("HTTP/1.1", answer.status, answer.headers.get("tollgate-reason") ?? "None");
})();
"#;

/// What a client prints of the five calls, over a gateway with TLS (`Some`) or without.
async fn calls(program: &[&str], files: Option<&LocalCertificate>, version: &str) -> Vec<String> {
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System);
    let setup = Setup::new(upstream.address());
    let gateway: TestGateway = match files {
        None => setup.start(),
        Some(files) => setup.tls(files.files()).start(),
    };
    let scheme = if files.is_some() { "https" } else { "http" };
    let ca = files.map(LocalCertificate::ca_file);
    let ca = ca.as_deref().map_or("", text);
    let collect = |device| format!("/api/machines/{device}/collectInvestigationPackage");
    let [command, switch, script] = program else { panic!("a program, a switch and a script") };
    let mut command = Command::new(command);
    command
        .args([switch, script, format!("{scheme}://localhost:{}", gateway.address().port()).as_str(), ca])
        .args([token(&playbooks()), collect(WORKSTATION), collect(EXECUTIVE)])
        .args([COMMENT, version])
        .env("NODE_EXTRA_CA_CERTS", ca);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{err}");
    out.lines().map(str::to_owned).collect()
}

fn expected(version: &str) -> Vec<String> {
    ["201 None", "201 None", "201 None", "403 device_group", "403 application"]
        .map(|rest| format!("{version} {rest}"))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn httpx_calls_over_http_1_and_http_2() {
    if !wanted(&[PYTHON]) {
        return;
    }
    let files = LocalCertificate::make();
    let program = [PYTHON, "-c", HTTPX];
    assert_eq!(calls(&program, None, "1").await, expected("HTTP/1.1"));
    assert_eq!(calls(&program, Some(&files), "1").await, expected("HTTP/1.1"));
    assert_eq!(calls(&program, Some(&files), "2").await, expected("HTTP/2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn aiohttp_calls_in_clear_text_and_over_tls() {
    if !wanted(&[PYTHON]) {
        return;
    }
    let files = LocalCertificate::make();
    let program = [PYTHON, "-c", AIOHTTP];
    assert_eq!(calls(&program, None, "1").await, expected("HTTP/1.1"));
    assert_eq!(calls(&program, Some(&files), "1").await, expected("HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_fetch_calls_in_clear_text_and_over_tls() {
    if !wanted(&["node"]) {
        return;
    }
    let files = LocalCertificate::make();
    let program = ["node", "-e", FETCH];
    assert_eq!(calls(&program, None, "1").await, expected("HTTP/1.1"));
    assert_eq!(calls(&program, Some(&files), "1").await, expected("HTTP/1.1"));
}
