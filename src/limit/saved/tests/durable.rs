//! Calls that must not be forgotten.

use super::*;

#[tokio::test]
async fn an_admission_that_cannot_be_written_under_a_durable_policy_is_given_back() {
    let (clock, _) = a_day_in();
    let surviving = Surviving::new(&clock);
    let app = application(1, 1);
    for durable in ["true", "\"fsync\""] {
        let set = quotas(&format!(
            "durable = {durable}\n{}",
            limit("read-per-app", "\"application\"", "\"10 per minute\"")
        ));
        let of = charges(&set, &app, "read");
        assert_eq!(surviving.admitted(&of, 2).await, 2, "durable = {durable}");
    }
    let written = surviving.limiter().journal().unwrap().1.written;
    assert!(written >= 4, "{written}");

    surviving.limiter().close();
    let set =
        quotas(&format!("durable = true\n{}", limit("read-per-app", "\"application\"", "\"10 per minute\"")));
    let of = charges(&set, &app, "read");
    for _ in 0..3 {
        let refused = call(surviving.limiter(), &of, &clock).await.unwrap_err();
        assert!(matches!(refused, LimitError::Unwritten { .. }), "{refused:?}");
    }
    assert_eq!(surviving.limiter().standings(&of, &clock)[0].remaining, 6);
    // Where nothing asks for it, a call passes.
    let set = ten_a_minute();
    assert_eq!(surviving.admitted(&charges(&set, &app, "read"), 10).await, 6);
}
