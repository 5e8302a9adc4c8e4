//! `tollgate inventory pull`: every device of the API, in a file that is whole or as it was.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tollgate::time::Clock;

use super::{policy_folder, run};
use crate::support::process::{Ended, Process, text};
use crate::support::upstream::{Answer, RecordingUpstream};

const TENANT: &str = "00000000-0000-0000-0000-00000000007e";

/// Pulls from an API and an issuer.
async fn pull(api: &str, issuer: &str, tenant: &str, client: [&str; 2], out: &Path) -> Ended {
    let args = ["inventory", "pull", "--out", text(out), "--tenant", tenant, "--api", api, "--login", issuer];
    let environment = [("TOLLGATE_CLIENT_ID", client[0]), ("TOLLGATE_CLIENT_SECRET", client[1])];
    Process::start_in(args, environment).ended().await
}

/// Pulls from one server that is both.
async fn pull_from(upstream: &RecordingUpstream, out: &Path) -> Ended {
    let url = format!("http://{}", upstream.address());
    pull(&url, &url, TENANT, ["an-id", "a s3cret&"], out).await
}

fn token(token: &str) -> Answer {
    Answer::json(200, &json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": token }))
}

fn page(devices: &[u8], next: Option<&str>) -> Answer {
    let id =
        |digit: &u8| json!({ "id": digit.to_string().repeat(40), "computerDnsName": format!("pc-{digit}") });
    let mut page = json!({ "value": devices.iter().map(id).collect::<Vec<_>>() });
    if let Some(next) = next {
        page["@odata.nextLink"] = next.into();
    }
    Answer::json(200, &page)
}

fn nobody_told() -> Answer {
    Answer::new(404, "")
}

#[tokio::test]
async fn every_page_is_fetched_and_the_set_reads_the_file() {
    let upstream = RecordingUpstream::start(nobody_told(), Clock::System);
    let folder = policy_folder();
    std::fs::remove_file(folder.path().join("devices.csv")).unwrap();
    let out = folder.path().join("devices.json");
    for answer in [
        token("one"),
        page(&[1, 2], Some("https://elsewhere.example/api/machines?$skip=2")),
        Answer::new(429, "").header("Retry-After", "0"),
        Answer::new(503, "").header("Retry-After", "1"),
        page(&[3], None),
    ] {
        upstream.answer_next(answer);
    }

    let ended = pull_from(&upstream, &out).await;

    let wrote = format!("wrote {}: 3 devices in 2 pages", out.display());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(
        ended.err,
        [
            "page 1: 2 devices, 2 in all",
            "the API answered 503 Service Unavailable: waiting 1 s",
            "page 2: 1 devices, 3 in all",
            &wrote,
        ]
    );
    assert_eq!(std::fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
    let checked = run(&["check", text(folder.path())]).await;
    assert!(checked.out.iter().any(|line| line.contains("3 devices")), "{checked:#?}");

    let requests = upstream.requests();
    let token = &requests[0];
    assert_eq!(token.path, format!("/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(
        String::from_utf8_lossy(&token.body),
        "grant_type=client_credentials&client_id=an-id&client_secret=a+s3cret%26\
         &scope=https%3A%2F%2Fapi.securitycenter.microsoft.com%2F.default"
    );
    let paths: Vec<_> = requests[1..].iter().map(|request| request.path.as_str()).collect();
    let second = "/api/machines?$skip=2";
    assert_eq!(paths, ["/api/machines", second, second, second]);
    assert!(requests[1..].iter().all(|request| request.header("Authorization") == Some("Bearer one")));
}

#[tokio::test]
async fn a_token_that_expires_on_the_way_is_asked_for_anew() {
    let upstream = RecordingUpstream::start(nobody_told(), Clock::System);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("devices.json");
    for answer in [
        token("one"),
        page(&[1], Some("/api/machines?$skip=1")),
        Answer::new(401, "expired"),
        token("two"),
        page(&[2], None),
    ] {
        upstream.answer_next(answer);
    }
    assert_eq!(pull_from(&upstream, &out).await.code, Some(0));
    assert_eq!(upstream.requests()[4].header("Authorization"), Some("Bearer two"));
}

#[tokio::test]
async fn a_pull_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("devices.json");
    std::fs::write(&out, "as it was").unwrap();
    let second = Some("/api/machines?$skip=1");
    for (what, answers, code, said) in [
        ("no token", vec![Answer::new(401, "bad secret")], 1, "the issuer answered 401"),
        ("a refusal", vec![token("t"), Answer::new(403, "no permission")], 1, "no permission"),
        ("a refusal later", vec![token("t"), page(&[1], second), Answer::new(400, "no")], 1, "answered 400"),
        ("no page", vec![token("t"), Answer::new(200, "<html>")], 1, "no page of devices"),
        ("no device", vec![token("t"), page(&[], None)], 1, "the API has no device"),
        (
            "refused twice",
            vec![token("t"), Answer::new(401, "x"), token("u"), Answer::new(401, "x")],
            1,
            "401",
        ),
        ("a day's wait", vec![token("t"), Answer::new(429, "").header("Retry-After", "86400")], 1, "86400 s"),
    ] {
        let upstream = RecordingUpstream::start(nobody_told(), Clock::System);
        answers.into_iter().for_each(|answer| upstream.answer_next(answer));
        let ended = pull_from(&upstream, &out).await;
        assert_eq!(ended.code, Some(code), "{what}: {ended:#?}");
        assert!(ended.err.last().unwrap().contains(said), "{what}: {ended:#?}");
        assert!(!ended.err.concat().contains("s3cret"), "{what}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "as it was", "{what}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{what}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_arguments_is_said_before_anybody_is_asked() {
    let out = ["--out", "devices.json", "--tenant", TENANT];
    for (args, said) in [
        (vec!["--out", "devices.csv", "--tenant", TENANT], "end in `.json`"),
        (vec!["--out", ".devices.json", "--tenant", TENANT], "end in `.json`"),
        (vec!["--out", "devices.json", "--tenant", "contoso"], "not a GUID"),
        ([&out[..], &["--cloud", "gcc-hihg"]].concat(), "did you mean `gcc-high`?"),
        ([&out[..], &["--api", "http://api.example"]].concat(), "clear text"),
        ([&out[..], &["--login", "http://login.example"]].concat(), "clear text"),
        (out.to_vec(), "the environment lacks `TOLLGATE_CLIENT_ID`"),
    ] {
        let ended = run(&[&["inventory", "pull"], &args[..]].concat()).await;
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err.concat().contains(said), "{said}: {ended:#?}");
    }
}

#[tokio::test]
async fn the_sandboxes_api_and_issuer_give_their_devices() {
    let sandbox = Process::start(["sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let lines = sandbox.prints_until(|line| line.starts_with("tail ")).await;
    let word = |beginning: &str, place: usize| {
        let line = lines.iter().find(|line| line.starts_with(beginning)).unwrap();
        line.split_whitespace().nth(place).unwrap().trim_end_matches([',', ')']).to_owned()
    };
    let (api, issuer) = (word("API ", 1), word("issuer ", 3));
    let tenant = word("OAuth ", 2).rsplit('/').next().unwrap().to_owned();
    let (client, secret) = (word("OAuth ", 4), word("OAuth ", 6));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("devices.json");

    let ended = pull(&api, &issuer, &tenant, [&client, &secret], &out).await;

    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(*ended.err.last().unwrap(), format!("wrote {}: 12 devices in 1 pages", out.display()));
}
