//! `tollgate limits`.

use serde_json::json;
use tollgate::time::Clock;

use super::{Serving, policy_folder, run};
use crate::support::gateway::{COMMENT, WORKSTATION, playbooks, token_of_today};
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream, nobody};

#[tokio::test]
async fn the_fullest_limits_of_a_running_gateway_are_printed_as_a_table() {
    let folder = policy_folder();
    let operations = folder.path().join("operations.toml");
    let said = std::fs::read_to_string(&operations).unwrap();
    std::fs::write(
        &operations,
        said.replace("\"100 per minute\", \"1500 per hour\"", "\"2 per minute\", \"20 per hour\""),
    )
    .unwrap();
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System);
    let serving = Serving::start(folder.path(), upstream.address(), &[]).await;
    let admin = serving.admin.to_string();
    let none = run(&["limits", "--admin", &admin]).await;
    assert!(none.code == Some(0) && none.out.len() == 1, "{none:#?}");

    let token = token_of_today(&playbooks());
    let mut client = RawClient::connect(serving.gateway).await;
    for status in [201, 201, 429] {
        client.collect(&token, WORKSTATION, COMMENT).await.assert_status(status);
    }
    let ended = run(&["limits", "--admin", &admin, "--top", "5"]).await;
    let (Some(0), [head, row]) = (ended.code, ended.out.as_slice()) else { panic!("{ended:#?}") };
    assert!(
        head.starts_with("policy ") && head.ends_with(", 1 keys of at most 1000000, 0 calls held"),
        "{head}"
    );
    let [windows, whose] = [
        "collect  2/2 minute, 2/20 hour  full for ",
        "  tenant 00000000-0000-0000-0000-00000000007e, application playbooks, operation collect",
    ];
    assert!(row.starts_with(windows) && row.ends_with(whose), "{row}");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_asked_is_said_in_one_line() {
    let nobody = nobody().to_string();
    let other = RecordingUpstream::start(Answer::new(200, "hello"), Clock::System);
    for (arguments, said) in [
        (["--admin", &*nobody, "--top", "20"], "Connection refused"),
        (["--admin", &other.address().to_string(), "--top", "20"], "not the page of a gateway"),
    ] {
        let ended = run(&[&["limits"][..], &arguments].concat()).await;
        let (Some(2), [line]) = (ended.code, ended.err.as_slice()) else { panic!("{ended:#?}") };
        assert!(line.starts_with("error: cannot ask `http://") && line.contains(said), "{line}");
    }
}
