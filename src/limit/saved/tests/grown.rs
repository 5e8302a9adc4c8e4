//! Limits that grew while nobody ran.

use super::*;

/// What a process that starts with these windows is told that it lacks.
fn lacks(surviving: &mut Surviving, windows: &str) -> Vec<(String, Duration)> {
    if let Some((_, limiter)) = surviving.open.take() {
        limiter.close();
    }
    let folder = StateFolder::open(surviving.folder.path()).unwrap();
    let before = Limiter::read(&folder, MANY, BOOT, &surviving.clock).unwrap();
    let set = quotas(&limit("grows-or-not", "\"application\"", windows));
    let lacking = set.lacking_since(before.kept());
    lacking.into_iter().map(|(limit, heals)| (limit.to_string(), heals)).collect()
}

#[tokio::test]
async fn a_limit_that_grew_over_a_restart_is_named_with_how_long_it_takes_to_heal() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let set = quotas(&limit("grows-or-not", "\"application\"", "\"10 per minute\""));
    surviving.admitted(&charges(&set, &application(1, 1), "read"), 10).await;
    let named = |seconds| vec![("grows-or-not".to_owned(), Duration::from_secs(seconds))];
    for (windows, expected) in [
        ("\"10 per minute\"", vec![]),
        ("\"5 per 10s\"", vec![]),
        ("\"11 per minute\"", named(60)),
        ("\"10 per minute\", \"10 per hour\"", named(3_600)),
    ] {
        assert_eq!(lacks(&mut surviving, windows), expected, "{windows}");
    }
    // Times that no window counts any more, and a longer one would.
    hand.advance(Duration::from_secs(61));
    assert_eq!(lacks(&mut surviving, "\"10 per hour\""), named(3_600));
    assert!(lacks(&mut surviving, "\"10 per minute\"").is_empty());
}

#[tokio::test]
async fn a_limit_of_which_nothing_was_written_lacks_nothing() {
    let (clock, _) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let set = ten_a_minute();
    surviving.admitted(&charges(&set, &application(1, 1), "read"), 10).await;
    assert!(lacks(&mut surviving, "\"99 per hour\"").is_empty());
}
