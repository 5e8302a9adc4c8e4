//! A fault of our own in the middle of a request, at every place where one can be: whatever is done reads the clock, and
//! here the clock fails at one reading after another.

use super::*;
use crate::support::within_deadline;

/// More readings than a request makes.
const READINGS: u32 = 60;

#[tokio::test]
async fn a_panic_costs_its_own_request_an_answer_and_nobody_else_anything() {
    let (upstream, gateway) = start(Bounds::default());
    let (mut answered, mut refused, mut closed) = (0, 0, 0);
    let mut first_that_passed = None;
    for reading in 1..=READINGS {
        let mut client = gateway.connect().await;
        until("the connection's first wait", || gateway.server().metrics.connections() == 1).await;
        gateway.hand.fail_at(reading);
        let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
        let (authorization, body) = (bearer(&playbooks()), "{\"Comment\":\"c\"}");
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let answer = String::from_utf8(client.read_to_end().await).unwrap();
        drop(client);
        gateway.hand.fail_at(0);
        match answer.get(..12) {
            Some("HTTP/1.1 200") => {
                answered += 1;
                first_that_passed.get_or_insert(reading);
            }
            Some("HTTP/1.1 500") => {
                assert!(answer.to_lowercase().contains("\r\ntollgate-reason: internal\r\n"), "{answer}");
                refused += 1;
            }
            None => closed += 1,
            Some(_) => panic!("at reading {reading}: {answer}"),
        }
        settled(&gateway).await;
        within_deadline("the end of the connection", async {
            while gateway.server().metrics.connections() > 0 {
                Clock::System.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    // But for the door's own waits, before and after it has read a header, there is somebody to answer.
    assert!(refused >= 5 && closed <= 2, "{answered} answered, {refused} refused, {closed} closed");
    assert!(first_that_passed.is_some_and(|first| first < READINGS), "{first_that_passed:?}");
    let page = gateway.admin("/metrics").await;
    let panics = page.text().lines().find_map(|line| line.strip_prefix("tollgate_panics_total ")).unwrap();
    assert!(panics.parse::<usize>().unwrap() >= refused + closed, "{panics}");

    // What went to the upstream is charged, and nothing else.
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    answer.assert_status(200);
    let seen = u32::try_from(upstream.requests().len()).unwrap();
    assert_eq!(answer.remaining(), 100 - seen);
}
