use super::*;

#[tokio::test]
async fn no_more_than_25_sessions_of_live_response_run_at_a_time() {
    let device =
        |number: u32| device(&format!("{number:040x}"), &format!("many-{number}"), Collections::AsSet);
    let fixture = fixture(ApiSettings {
        devices: (0..27).map(device).collect(),
        running_for: Duration::from_secs(600),
        ..ApiSettings::default()
    });
    let run = async |number: u32| {
        let target = format!("/api/machines/{number:040x}/runliveresponse");
        fixture.send(&application(1), "POST", &target, r#"{"Commands":[],"Comment":"triage"}"#).await
    };
    for number in 0..25 {
        if number % 10 == 0 {
            fixture.hand.advance(Duration::from_secs(60));
        }
        let answer = run(number).await;
        assert_eq!((answer.status, &answer.body["type"]), (201, &json!("LiveResponse")), "{number}");
    }
    assert_eq!(run(0).await.status, 400, "one is under way on that device");
    fixture.hand.advance(Duration::from_secs(60));
    assert_eq!(run(25).await.status, 429);
    // The first ten are over.
    fixture.hand.advance(Duration::from_secs(420));
    assert_eq!(run(25).await.status, 201);
}
