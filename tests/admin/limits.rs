//! `/limits`: the fullest keys.

use super::*;

#[tokio::test]
async fn the_fullest_keys_are_shown_with_whom_they_count_for_and_when_they_free() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let empty = gateway.admin("/limits").await.json();
    assert_eq!((&empty["keys"], &empty["fullest"]), (&json!(0), &json!([])));
    for _ in 0..3 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    }
    gateway.hand.advance(Duration::from_millis(20_500));
    let page = gateway.admin("/limits?top=1").await.json();
    assert_eq!(page["keys"], 1);
    let [key] = page["fullest"].as_array().unwrap().as_slice() else { panic!("{page}") };
    let frees = json!(39_500 + 1);
    assert_eq!((&key["limit"], &key["operation"]), (&json!("collect"), &json!("collect")));
    // The application by its name in the policy; the tenant has none.
    assert_eq!(key["application"], "playbooks");
    assert_eq!(key["tenant"], "00000000-0000-0000-0000-00000000007e");
    assert!(key.get("user").is_none() && key.get("device").is_none(), "{key}");
    let minute = &key["windows"][0];
    assert_eq!(
        (&minute["window"], &minute["used"], &minute["of"]),
        (&json!("minute"), &json!(3), &json!(100))
    );
    let frees_in = minute["frees_in_ms"].as_u64().unwrap();
    assert!((39_500..=39_501).contains(&frees_in), "{frees_in}, about {frees}");
    gateway.hand.advance(Duration::from_secs(3_600));
    assert_eq!(gateway.admin("/limits").await.json()["fullest"], json!([]));
}

#[tokio::test]
async fn a_query_that_asks_for_no_number_is_a_400_with_a_sentence() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    for query in [
        "top=0",
        "top=1001",
        "top=-1",
        "top=x",
        "top=1&top=2",
        "top",
        "fullest=3",
        "top=99999999999999999999",
    ] {
        let answer = gateway.admin(&format!("/limits?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.text(), "the query must be `top=` and a number from 1 to 1000\n");
    }
    gateway.admin("/limits?top=1000").await.assert_status(200);
}
