use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::id::{ActionId, DeviceId};
use crate::outcome::ReasonCode;
use crate::sandbox::api::Api;
use crate::sandbox::issuer::Issuer;
use crate::sandbox::listen::serve;
use crate::source::Problems;
use crate::time::{Clock, Wall};

fn issuer() -> Arc<Issuer> {
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(1_767_225_600));
    Issuer::new("https://localhost:9443", TENANT, registrations(), clock).unwrap()
}

fn printed() -> Vec<Call> {
    calls("127.0.0.1:8080".parse().unwrap(), &Tokens::issue(&issuer()))
}

#[test]
fn the_four_tokens_carry_what_the_table_says() {
    let issuer = issuer();
    let claims = |who: Who| issuer.claims(&who.caller());
    for who in Who::ALL {
        let claims = claims(who);
        assert_eq!(claims["tid"], TENANT.to_string());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 8 * 3_600);
    }
    let playbooks = claims(Who::Playbooks);
    assert_eq!(playbooks["roles"], serde_json::json!(["Machine.CollectForensics", "Machine.Read.All"]));
    assert_eq!(playbooks.get("scp"), None);
    for (who, scp, groups) in [
        (Who::Responder, "Machine.CollectForensics Machine.Read", 3),
        (Who::Reader, "Machine.CollectForensics Machine.Read", 1),
        (Who::Outsider, "Machine.CollectForensics", 1),
    ] {
        let claims = claims(who);
        assert_eq!(claims["scp"], scp);
        assert_eq!(claims["upn"], who.name());
        assert_eq!(claims["groups"].as_array().unwrap().len(), groups);
        assert_eq!(claims["appid"], people::PORTAL.to_string());
        assert_eq!(claims.get("roles"), None);
    }
}

#[test]
fn every_call_is_one_line_that_begins_with_curl_and_prints_the_status() {
    for Call { line, .. } in printed() {
        assert!(line.starts_with("curl ") && !line.contains('\n'), "{line}");
        assert!(line.contains("%{http_code}") && line.contains(" -i "), "{line}");
        assert_eq!(line.matches('\'').count() % 2, 0, "{line}");
    }
}

#[test]
fn there_is_a_call_for_each_kind_of_answer() {
    let answers: Vec<_> = printed().iter().map(|call| (call.status, call.reason)).collect();
    for answer in [
        (201, None),
        (400, None),
        (400, Some(ReasonCode::MissingParameter)),
        (401, Some(ReasonCode::NoToken)),
        (403, Some(ReasonCode::MissingPermission)),
        (403, Some(ReasonCode::MissingRole)),
        (403, Some(ReasonCode::DeviceGroup)),
        (403, Some(ReasonCode::Application)),
        (404, Some(ReasonCode::UnknownDevice)),
        (429, Some(ReasonCode::OverLimit)),
    ] {
        assert!(answers.contains(&answer), "{answer:?}");
    }
}

#[test]
fn every_call_has_a_device_of_its_own_and_one_of_them_spends_the_limit() {
    let lines: Vec<String> = printed().into_iter().map(|call| call.line).collect();
    for device in SandboxDevice::ALL {
        let named = |line: &&String| line.contains(device.id) || line.contains(&device.dns_name());
        assert!(lines.iter().filter(named).count() <= 1, "{}", device.name);
    }
    let paths: HashSet<&str> =
        lines.iter().map(|line| line.split("/api/").nth(1).unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(paths.len(), lines.len(), "{paths:?}");
    let spends: Vec<_> = lines.iter().map(|line| line.matches("/getPackageUri").count()).collect();
    assert_eq!(spends.iter().filter(|count| **count > 0).collect::<Vec<_>>(), [&3]);
}

#[test]
fn the_seeded_action_is_known_to_the_api_and_its_device_to_the_inventory() {
    let seeded = seeded_actions();
    let [(action, device)] = seeded.as_slice() else { panic!("{seeded:?}") };
    let settings = api_settings();
    assert_eq!(settings.actions[0].id, *action);
    assert_eq!(crate::id::DeviceRef::Id(settings.actions[0].device), *device);
    assert_eq!(Some(action.clone()), ActionId::parse(devices::COLLECTION));
    assert!(overlay(&issuer(), "http://127.0.0.1:1")[4].text().contains(&device.to_string()));
}

#[test]
fn the_overlay_is_well_formed_and_names_the_issuer_of_the_tokens() {
    let issuer = issuer();
    let files = overlay(&issuer, "http://127.0.0.1:9080");
    let mut problems = Problems::default();
    for file in files.iter().filter(|file| file.name().ends_with(".toml")) {
        assert!(file.toml(&mut problems).is_some(), "{}: {problems:?}", file.name());
    }
    let claims: Value = issuer.claims(&Who::Playbooks.caller());
    let iss = claims["iss"].as_str().unwrap().replace(&TENANT.to_string(), "{tid}");
    assert!(files[0].text().contains(&format!("issuer    = \"{iss}\"")), "{}", files[0].text());
    assert!(files[0].text().contains("\"http://127.0.0.1:9080/{tid}/.well-known/openid-configuration\""));
    for line in files[4].text().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        assert!(cells.len() == 6 && cells[0].parse::<DeviceId>().is_ok(), "{line}");
    }
}

/// Without the gateway the API alone answers: what it lets through here, the gateway refuses in the sandbox.
#[tokio::test]
async fn the_api_alone_lets_pass_what_only_the_gateway_refuses() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (clock, _) = Clock::manual(Wall::default());
    tokio::spawn(serve(listener, Api::new(api_settings(), clock).router()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for call in calls(address, &Tokens::issue(&issuer())) {
        let expected = match call.reason {
            Some(ReasonCode::MissingPermission | ReasonCode::Application) => 200,
            Some(ReasonCode::MissingRole | ReasonCode::DeviceGroup) => 201,
            _ => call.status,
        };
        assert_eq!(paste(&client, &call.line).await, expected, "{}", call.title);
        if expected == call.status {
            assert_eq!(paste(&client, &call.line).await, expected, "again: {}", call.title);
        }
    }
}

/// What a shell and curl would make of a line: the status of its last answer.
async fn paste(client: &reqwest::Client, line: &str) -> u16 {
    let quoted: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
    let mut status = 0;
    for url in line.split(' ').filter(|word| word.starts_with("http://")) {
        let body = quoted.iter().find(|text| text.starts_with('{'));
        let mut request = match body {
            Some(body) => client.post(url).body(body.to_string()),
            None => client.get(url),
        };
        for (name, value) in quoted.iter().filter_map(|text| text.split_once(": ")) {
            request = request.header(name, value);
        }
        status = request.send().await.unwrap().status().as_u16();
    }
    status
}
