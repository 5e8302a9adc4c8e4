//! Calls whose devices stand in the body.

use serde_json::json;

use crate::permits::start;
use crate::support::gateway::{EXECUTIVE, WORKSTATION, bearer, playbooks, policy, rewritten};

const TAG: &str = r#"
[[operation]]
name        = "tag_devices"
method      = "POST"
path        = "/api/machines/AddOrRemoveTagForMultipleMachines"
application = ["Machine.ReadWrite.All"]
delegated   = []
body        = { type = "application/json", required = { Value = "string" }, devices = "MachineIds" }

[[operation]]"#;

#[tokio::test]
async fn every_device_that_a_body_names_must_be_open_to_the_caller() {
    let policy =
        rewritten(policy(), "applications.toml", "\"upload_file\",", "\"upload_file\", \"tag_devices\",");
    let operations = policy.get("operations.toml").unwrap().text().replacen("[[operation]]", TAG, 1);
    let mut policy = policy;
    policy.insert(tollgate::source::SourceFile::new("operations.toml", operations));
    let (upstream, gateway) = start(policy).await;
    let token = bearer(&playbooks().permissions(["Machine.ReadWrite.All"]));
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    for (devices, reason) in [
        (json!([WORKSTATION]), None),
        (json!([EXECUTIVE]), Some("device_group")),
        (json!([WORKSTATION, EXECUTIVE]), Some("device_group")),
        (json!([EXECUTIVE, WORKSTATION]), Some("device_group")),
        (json!(EXECUTIVE), Some("device_group")),
        (json!([]), Some("missing_parameter")),
    ] {
        let body = json!({ "Value": "VIP", "MachineIds": devices }).to_string();
        let path = "/api/machines/AddOrRemoveTagForMultipleMachines";
        let answer = gateway.connect().await.request("POST", path, &headers, body.as_bytes()).await;
        assert_eq!(answer.header("Tollgate-Reason"), reason, "{devices}");
    }
    assert_eq!(upstream.requests().len(), 1);
}
