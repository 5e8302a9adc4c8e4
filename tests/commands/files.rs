//! Few open files: connections are bounded by them, so that all else goes on.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tollgate::snapshot::version;
use tollgate::time::{Clock, Wall};

use super::{Serving, own_address, policy_folder};
use crate::support::gateway::{policy, portal, rewritten, token_of_today, write_policy};
use crate::support::process::{Process, Signal, eventually, text};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// With 128 kept for all else, a fifth of the rest.
const FILES: usize = 218;
const CONNECTIONS: usize = 18;

/// A command line of `serve` whose files the shell bounds so before the gateway takes its place.
fn serve(limit: &str, policies: &str, upstream: &str) -> String {
    format!(
        "ulimit {limit}; exec {} serve --policies {policies} --upstream http://{upstream} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --threads 1 --header-timeout 1m",
        env!("CARGO_BIN_EXE_tollgate")
    )
}

async fn admin(serving: &Serving, path: &str) -> RawResponse {
    let answer = RawClient::connect(serving.admin).await.request("GET", path, &[], b"").await;
    answer.assert_status(200);
    answer
}

#[tokio::test]
async fn as_many_connections_are_taken_as_there_are_files_for_and_all_else_goes_on_beside_them() {
    let (clock, hand) = Clock::manual(Wall::from_unix_seconds(0));
    // Nobody is answered before everybody has called.
    let slow = Answer::new(200, "").after(Duration::from_secs(60));
    let (folder, upstream) = (policy_folder(), RecordingUpstream::start(slow, clock));
    let line = serve(&format!("-n {FILES}"), text(folder.path()), &upstream.address().to_string());
    let serving = Serving::of(Process::shell(&line)).await;
    let said = format!("gives {FILES} open files: {CONNECTIONS} connections of clients");
    serving.process.says_anywhere(&said).await;
    serving.process.says_anywhere("in the place of 10000, which need 14224").await;

    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(RawClient::connect(serving.gateway).await);
    }
    let open = format!("tollgate_connections {CONNECTIONS}\n");
    within_deadline("the connections", async {
        while !admin(&serving, "/metrics").await.text().contains(&open) {}
    })
    .await;
    for _ in 0..50 {
        RawClient::connect(serving.gateway).await.expect_close().await;
    }
    admin(&serving, "/readyz").await;
    let files = rewritten(policy(), "roles.toml", "[[role]]", "# edited\n[[role]]");
    write_policy(&files, folder.path());
    serving.process.signal(Signal::HUP);
    let edited = version(&files).to_string();
    within_deadline("the reload", async {
        while !admin(&serving, "/policy").await.text().contains(&edited) {}
    })
    .await;

    // Each of them has a call of its own at the upstream, at once.
    let authorization = format!("Bearer {}", token_of_today(&portal()));
    for client in &mut silent {
        client.send_request("GET", "/api/machines", &[("Authorization", &authorization)], b"").await;
    }
    upstream.wait_for(CONNECTIONS).await;
    admin(&serving, "/metrics").await;
    hand.advance(Duration::from_secs(60));
    for client in &mut silent {
        client.read_response().await.assert_status(200);
    }
}

#[tokio::test]
async fn too_few_files_to_serve_anyone_are_said_in_one_line_with_exit_code_2() {
    let folder = policy_folder();
    let process = Process::shell(&serve("-n 100", text(folder.path()), &own_address(1).to_string()));
    let ended = within_deadline("the end", process.ended()).await;
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let [line] = ended.err.as_slice() else { panic!("{ended:#?}") };
    assert!(line.starts_with("error: 100 open files are too few"), "{line}");
}

#[tokio::test]
async fn what_the_system_allows_at_most_is_asked_for() {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let folder = policy_folder();
    let line = serve("-S -n 64", text(folder.path()), &own_address(1).to_string());
    let serving = Serving::of(Process::shell(&line)).await;
    let limits = eventually("the limits", || serving.process.limit("Max open files")).await;
    assert_eq!(limits, most.to_string());
}
