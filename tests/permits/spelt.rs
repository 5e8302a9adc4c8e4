//! An id that is spelt as another reader would read it too is the same id, or none.

use serde_json::json;
use tollgate::source::PolicyFiles;
use tollgate::time::Clock;

use super::{EXECUTIVE, Setup, TestGateway, WORKSTATION, playbooks, portal, rewritten, with_device_groups};
use crate::support::upstream::{Answer, RecordingUpstream};

/// The id of an action, and of a device in Entra.
const ID: &str = "5382f7ea-7557-4ab7-9782-d50480024a4e";

fn start(files: PolicyFiles) -> (RecordingUpstream, TestGateway) {
    let answer = Answer::json(201, &json!({ "id": ID, "machineId": EXECUTIVE }));
    let upstream = RecordingUpstream::start(answer, Clock::System);
    let gateway = Setup::new(upstream.address()).policy(files).start();
    (upstream, gateway)
}

#[tokio::test]
async fn an_action_that_is_spelt_otherwise_belongs_to_its_device_where_unknown_ones_are_forwarded() {
    let (upstream, gateway) = start(with_device_groups(r#"unknown_action = "forward""#));
    gateway.collect(&portal(), EXECUTIVE).await.assert_status(201);
    let other = ID.replace("53", "54");
    let plain = ID.replace('-', "");
    for (spelt, expected) in [
        (other, (201, None)),
        (ID.to_uppercase(), (403, Some("device_group"))),
        (plain.clone(), (403, Some("device_group"))),
        (format!("%7B{ID}%7D"), (403, Some("device_group"))),
        (format!("%7b{ID}}}"), (403, Some("device_group"))),
        (format!("%28{ID}%29"), (404, Some("no_operation"))),
        (format!("({ID})"), (404, Some("no_operation"))),
        (format!("%20{ID}"), (404, Some("no_operation"))),
        (format!("{ID}%20"), (404, Some("no_operation"))),
        (format!("%C2%A0{ID}"), (404, Some("no_operation"))),
        (format!("%7B{plain}%7D"), (404, Some("no_operation"))),
        (format!("%7B{ID}"), (404, Some("no_operation"))),
        (format!("%22{ID}%22"), (404, Some("no_operation"))),
        (format!("+{}", &ID[1..]), (404, Some("no_operation"))),
    ] {
        let answer = gateway.get(&playbooks(), &format!("/api/machineactions/{spelt}/getPackageUri")).await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), expected, "{spelt}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_device_that_is_spelt_otherwise_is_in_its_group_where_unknown_ones_are_ungrouped() {
    let files = with_device_groups(r#"unknown_device = "ungrouped""#);
    let files = rewritten(
        files,
        "devices.csv",
        "exec-1.test.example,test.example,Windows11,,",
        &format!("exec-1.test.example,test.example,Windows11,,{ID}"),
    );
    let files = rewritten(
        files,
        "applications.toml",
        r#"["Workstations"]"#,
        r#"["Workstations", "Ungrouped devices (default)"]"#,
    );
    let (upstream, gateway) = start(files);
    let plain = ID.replace('-', "");
    for (spelt, expected) in [
        ("nobody.test.example".to_owned(), (201, None)),
        (WORKSTATION.to_owned(), (201, None)),
        ("ws-1.test.example.".to_owned(), (201, None)),
        ("exec-1.test.example.".to_owned(), (403, Some("device_group"))),
        ("exec-1.".to_owned(), (403, Some("device_group"))),
        ("EXEC-1%2Etest.example%2e".to_owned(), (400, Some("malformed_request"))),
        ("%20exec-1.test.example%20".to_owned(), (403, Some("device_group"))),
        (format!("%20{EXECUTIVE}"), (403, Some("device_group"))),
        (ID.to_uppercase(), (403, Some("device_group"))),
        (plain.to_uppercase(), (403, Some("device_group"))),
        (format!("%7B{ID}%7D"), (403, Some("device_group"))),
        (format!("%20{ID}"), (403, Some("device_group"))),
        ("%20".to_owned(), (404, Some("no_operation"))),
        ("%20.".to_owned(), (404, Some("no_operation"))),
    ] {
        let answer = gateway.collect(&playbooks(), &spelt).await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), expected, "{spelt}");
    }
    // As it was sent: what is read otherwise here is no other call there.
    let paths: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    assert!(paths[2].contains("/ws-1.test.example./"), "{paths:?}");
}
