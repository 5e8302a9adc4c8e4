use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::time::{ManualClock, Wall};
use crate::token::error::{Flaw, TokenError};
use crate::token::forge::*;
use crate::token::ring::schedule::DEMAND_INTERVAL;
use crate::token::site::*;
use crate::token::{KeyRefresher, Verifier, refresh_now};

const UNKNOWN: Option<TokenError> = Some(TokenError::Bad(Flaw::UnknownKey));

/// Nobody could say whether the key is the issuer's.
fn unavailable(retry_after: Duration) -> Option<TokenError> {
    Some(TokenError::KeysUnavailable { retry_after })
}

/// A verifier whose only issuer is a site that has published the key `one`, and the task that fetches.
struct Scene {
    site: Site,
    verifier: Arc<Verifier>,
    clock: Clock,
    hand: Arc<ManualClock>,
    refresher: JoinSet<()>,
}

impl Scene {
    /// Long enough after the first fetch that a request may ask for another.
    async fn start() -> Self {
        let mut scene = Self::without_keys();
        refresh_now(&scene.verifier, &scene.clock).await;
        assert_eq!(scene.site.count_hits(), 2);
        scene.hand.advance(DEMAND_INTERVAL);
        scene.refresh();
        scene
    }

    fn without_keys() -> Self {
        let site = Site::start();
        let verifier = verifier(&site.files(), None);
        let (clock, hand) = clock();
        Self { site, verifier, clock, hand, refresher: JoinSet::new() }
    }

    fn refresh(&mut self) {
        let verifier = self.verifier.clone();
        self.refresher.spawn(KeyRefresher::new(move || verifier.clone(), self.clock.clone()).run());
    }

    async fn verify(&self, token: &str) -> Option<TokenError> {
        verify_now(&self.verifier, token, &self.clock).await
    }

    /// A request in a task of its own.
    fn spawn(&self, tasks: &mut JoinSet<Option<TokenError>>, token: String) {
        let (verifier, clock) = (self.verifier.clone(), self.clock.clone());
        tasks.spawn(async move { verify_now(&verifier, &token, &clock).await });
    }

    fn publish_both(&self) {
        self.site.publish(&[SIGNER.jwk("one"), STRANGER.jwk("two")]);
    }

    fn two(&self) -> String {
        self.site.token_by(&STRANGER, "two")
    }

    fn state(&self) -> IssuerState {
        state(&self.verifier, &self.clock)
    }
}

/// Lets every task run until it waits for something.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_key_that_is_not_held_is_fetched_while_the_request_waits() {
    let mut scene = Scene::start().await;
    scene.publish_both();
    assert_eq!(scene.verify(&scene.two()).await, None);
    assert_eq!(scene.site.count_hits(), 2);
    assert_eq!(scene.state().fetches, Fetches { succeeded: 2, failed: 0 });
}

#[tokio::test]
async fn requests_for_keys_share_one_fetch() {
    let mut scene = Scene::start().await;
    scene.publish_both();
    let mut tasks = JoinSet::new();
    for index in 0..100 {
        let token =
            if index % 2 == 0 { scene.two() } else { scene.site.token_by(&STRANGER, &format!("x{index}")) };
        scene.spawn(&mut tasks, token);
    }
    let verdicts = tasks.join_all().await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_none()).count(), 50);
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == UNKNOWN).count(), 50);
    assert_eq!(scene.site.count_hits(), 2);
}

#[tokio::test]
async fn an_issuer_is_asked_out_of_turn_at_most_every_30_s() {
    let mut scene = Scene::start().await;
    assert_eq!(scene.verify(&scene.two()).await, UNKNOWN);
    assert_eq!(scene.site.count_hits(), 2);
    // From here on nobody waits: what was fetched is what there is.
    scene.publish_both();
    scene.hand.advance(DEMAND_INTERVAL - Duration::from_millis(1));
    assert_eq!(scene.verify(&scene.two()).await, UNKNOWN);
    assert_eq!(scene.site.count_hits(), 0);
    scene.hand.advance(Duration::from_millis(1));
    assert_eq!(scene.verify(&scene.two()).await, None);
    assert_eq!(scene.site.count_hits(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_fetches_twice_a_minute() {
    let mut scene = Scene::start().await;
    for second in 0..120 {
        for index in 0..20 {
            let token = scene.site.token_by(&STRANGER, &format!("{second}.{index}"));
            assert_eq!(scene.verify(&token).await, UNKNOWN);
        }
        scene.hand.advance(Duration::from_secs(1));
    }
    assert_eq!(scene.site.count_hits(), 2 * 4);
}

#[tokio::test]
async fn a_request_waits_three_seconds_and_one_of_a_known_key_not_at_all() {
    let mut scene = Scene::start().await;
    scene.site.set("/keys", Answer::Never);
    let mut tasks = JoinSet::new();
    scene.spawn(&mut tasks, scene.two());
    while scene.site.hits.recv().await.unwrap() != "/keys" {}
    // The clock stands still, the issuer hangs, and another request waits.
    assert_eq!(scene.verify(&scene.site.token()).await, None);
    scene.hand.advance(DEMAND_WAIT - Duration::from_millis(1));
    settle().await;
    assert!(tasks.try_join_next().is_none());
    scene.hand.advance(Duration::from_millis(1));
    let end = unavailable(FETCH_TIMEOUT - DEMAND_WAIT);
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), end);
    // Whoever comes now waits for the same fetch, to its end.
    scene.spawn(&mut tasks, scene.two());
    settle().await;
    assert!(tasks.try_join_next().is_none());
    scene.hand.advance(FETCH_TIMEOUT - DEMAND_WAIT);
    let next = unavailable(DEMAND_INTERVAL - FETCH_TIMEOUT);
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), next);
    assert_eq!(scene.site.count_hits(), 0);
}

#[tokio::test]
async fn without_any_key_the_first_request_waits_and_then_the_answer_is_503() {
    let mut scene = Scene::without_keys();
    let keys = scene.site.answers.lock()["/keys"].clone();
    scene.site.set("/keys", Answer::Never);
    scene.refresh();
    let mut tasks = JoinSet::new();
    scene.spawn(&mut tasks, scene.site.token());
    while scene.site.hits.recv().await.unwrap() != "/keys" {}
    scene.hand.advance(DEMAND_WAIT);
    let end = unavailable(FETCH_TIMEOUT - DEMAND_WAIT);
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), end);
    scene.hand.advance(FETCH_TIMEOUT - DEMAND_WAIT);
    while scene.state().fetches.failed == 0 {
        tokio::task::yield_now().await;
    }
    // 30 s after the beginning of the fetch, a request may ask for the next one.
    let next = unavailable(DEMAND_INTERVAL - FETCH_TIMEOUT);
    assert_eq!(scene.verify(&scene.site.token()).await, next);

    scene.site.set("/keys", keys);
    scene.hand.advance(DEMAND_INTERVAL - FETCH_TIMEOUT);
    assert_eq!(scene.verify(&scene.site.token()).await, None);
}

#[tokio::test]
async fn the_last_good_keys_are_used_for_a_day_without_their_issuer_and_no_longer() {
    let scene = Scene::start().await;
    let site = &scene.site;
    site.set(CONFIGURATION, Answer::Status(500));
    let token = site.token();
    scene.hand.advance(Duration::from_secs(24 * 3_600) - DEMAND_INTERVAL);
    while scene.state().fetches.failed == 0 {
        tokio::task::yield_now().await;
    }
    scene.hand.step_wall(Wall::from_unix_seconds(NOW));
    assert_eq!(scene.verify(&token).await, None);
    assert_eq!((scene.state().keys, scene.state().age), (1, Some(Duration::from_secs(24 * 3_600))));
    // Those that are held are good; of another key nobody can say whose it is.
    let verdict = scene.verify(&scene.two()).await;
    assert!(matches!(verdict, Some(TokenError::KeysUnavailable { .. })), "{verdict:?}");

    scene.hand.advance(Duration::from_secs(1));
    let verdict = scene.verify(&token).await;
    assert!(matches!(verdict, Some(TokenError::KeysUnavailable { .. })), "{verdict:?}");
    assert_eq!((scene.state().keys, scene.state().fetches.succeeded), (0, 1));

    // They are not gone: the day is the policy's.
    let toml = site.files().get("issuers.toml").unwrap().text().to_owned() + "keep_keys = \"25h\"\n";
    let longer = verifier(&files(&toml, &[]), Some(&scene.verifier));
    assert_eq!(verify_now(&longer, &token, &scene.clock).await, None);
}

#[tokio::test]
async fn keys_are_fetched_again_when_their_cache_control_says_within_5_min_and_an_hour() {
    for (header, seconds) in [
        ("max-age=0", 300),
        ("no-store", 300),
        ("max-age=600", 600),
        ("max-age=86400, private", 3_600),
        ("max-age=999999", 3_600),
        ("private", 3_600),
    ] {
        let mut scene = Scene::without_keys();
        let Answer::Ok(keys) = scene.site.answers.lock()["/keys"].clone() else {
            panic!("the site is set up")
        };
        scene.site.set("/keys", Answer::Kept(keys, header));
        refresh_now(&scene.verifier, &scene.clock).await;
        let interval = Duration::from_secs(seconds);
        scene.hand.advance(interval.mul_f64(0.9) - Duration::from_secs(1));
        refresh_now(&scene.verifier, &scene.clock).await;
        assert_eq!(scene.site.count_hits(), 2, "{header}");
        scene.hand.advance(interval.mul_f64(0.1) + Duration::from_secs(1));
        refresh_now(&scene.verifier, &scene.clock).await;
        assert_eq!(scene.site.count_hits(), 2, "{header}");
    }
}

#[tokio::test]
async fn keys_that_are_kept_for_an_hour_are_fetched_twice_in_it() {
    let mut scene = Scene::without_keys();
    let toml = scene.site.files().get("issuers.toml").unwrap().text().to_owned() + "keep_keys = \"1h\"\n";
    let verifier = verifier(&files(&toml, &[]), None);
    for minutes in [0, 29, 1] {
        scene.hand.advance(Duration::from_secs(60 * minutes));
        refresh_now(&verifier, &scene.clock).await;
        assert_eq!(scene.site.count_hits(), if minutes == 29 { 0 } else { 2 }, "{minutes}");
    }
}

#[tokio::test]
async fn no_more_requests_wait_for_keys_than_there_is_room_for() {
    let mut scene = Scene::start().await;
    scene.site.set("/keys", Answer::Never);
    let mut tasks = JoinSet::new();
    for index in 0..MAX_WAITERS {
        scene.spawn(&mut tasks, scene.site.token_by(&STRANGER, &format!("x{index}")));
    }
    while scene.site.hits.recv().await.unwrap() != "/keys" {}
    settle().await;
    assert!(tasks.try_join_next().is_none());
    assert_eq!(scene.verify(&scene.two()).await, unavailable(FETCH_TIMEOUT));
    scene.hand.advance(FETCH_TIMEOUT);
    let verdicts = tasks.join_all().await;
    assert!(verdicts.len() == MAX_WAITERS && verdicts.iter().all(|verdict| *verdict != UNKNOWN));
    // Their places are free again.
    assert_eq!(scene.verify(&scene.two()).await, unavailable(DEMAND_INTERVAL - FETCH_TIMEOUT));
}

#[tokio::test]
async fn a_tenant_that_is_added_while_the_issuer_is_away_costs_nobody_his_keys() {
    let scene = Scene::start().await;
    scene.site.set(CONFIGURATION, Answer::Status(500));
    let reloaded = |from: &str, to: &str| {
        let toml = scene.site.files().get("issuers.toml").unwrap().text().replace(from, to);
        verifier(&files(&toml, &[]), Some(&scene.verifier))
    };
    let both = format!("\"{TENANT}\", \"{OTHER_TENANT}\"");
    let after = reloaded(&format!("\"{TENANT}\""), &both);
    assert_eq!(verify_now(&after, &scene.site.token(), &scene.clock).await, None);
    let claims = with(application(), "iss", json!(format!("{}/", scene.site.base)));
    let token = SIGNER.sign(&with(claims, "tid", json!(OTHER_TENANT)));
    assert_eq!(verify_now(&after, &token, &scene.clock).await, None);
    assert_eq!(state(&after, &scene.clock).keys, 1);
    // Another issuer's keys are not this one's, whatever the address.
    let other = reloaded(&format!("issuer = \"{}/\"", scene.site.base), "issuer = \"https://other/\"");
    assert_eq!(state(&other, &scene.clock).keys, 0);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_stops_at_the_next_fetch() {
    let scene = Scene::start().await;
    scene.publish_both();
    let (one, two) = (scene.site.token(), scene.two());
    assert_eq!((scene.verify(&one).await, scene.verify(&two).await), (None, None));
    scene.site.publish(&[STRANGER.jwk("two")]);
    assert_eq!((scene.verify(&one).await, scene.verify(&two).await), (None, None));
    scene.hand.advance(schedule::REFRESH_INTERVAL);
    while scene.state().fetches.succeeded < 3 {
        tokio::task::yield_now().await;
    }
    scene.hand.step_wall(Wall::from_unix_seconds(NOW));
    assert_eq!((scene.verify(&one).await, scene.verify(&two).await), (UNKNOWN, None));
}

#[tokio::test]
async fn an_issuer_that_hangs_keeps_no_other_waiting() {
    let (slow, mut quick) = (Site::start(), Site::start());
    slow.set("/keys", Answer::Never);
    let toml = |site: &Site, name: &str| {
        site.files().get("issuers.toml").unwrap().text().replace("\"site\"", &format!("\"{name}\""))
    };
    // More issuers that hang than are asked at once.
    let many: String = (0..20)
        .map(|index| {
            toml(&slow, &index.to_string())
                .replace(&format!("issuer = \"{}", slow.base), &format!("issuer = \"{}/{index}", slow.base))
        })
        .collect();
    let verifier = verifier(&files(&(many + &toml(&quick, "quick")), &[]), None);
    let (clock, _hand) = clock();
    let mut refresher = JoinSet::new();
    refresher.spawn({
        let (verifier, clock) = (verifier.clone(), clock.clone());
        KeyRefresher::new(move || verifier.clone(), clock).run()
    });
    settle().await;
    assert_eq!(verify_now(&verifier, &quick.token(), &clock).await, None);
    assert_eq!(quick.count_hits(), 2);
}

#[tokio::test]
async fn a_fetch_whose_task_is_aborted_lets_another_begin() {
    let mut scene = Scene::start().await;
    let keys = scene.site.answers.lock()["/keys"].clone();
    scene.site.set("/keys", Answer::Never);
    let mut tasks = JoinSet::new();
    scene.spawn(&mut tasks, scene.two());
    while scene.site.hits.recv().await.unwrap() != "/keys" {}
    scene.refresher.shutdown().await;
    let verdict = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(verdict, unavailable(DEMAND_INTERVAL), "whoever waited is told");
    scene.site.set("/keys", keys);
    scene.refresh();
    scene.publish_both();
    scene.hand.advance(DEMAND_INTERVAL);
    assert_eq!(scene.verify(&scene.two()).await, None);
}

#[tokio::test]
async fn keys_in_a_file_are_never_waited_for() {
    let verifier = verifier(&files(&issuers(), &[SIGNER.jwk("one")]), None);
    let (clock, _) = clock();
    let header = with(header(), "kid", json!("two")).to_string();
    let token = SIGNER.sign_text(&header, &application().to_string());
    assert_eq!(verify_now(&verifier, &token, &clock).await, UNKNOWN);
    let state = verifier.issuers(&clock).next().unwrap();
    assert_eq!((state.keys, state.age, state.fetches), (1, None, Fetches::default()));
}

#[tokio::test]
async fn only_a_missing_key_is_worth_a_fetch() {
    let mut scene = Scene::start().await;
    let claims = |name: &str, value: Value| {
        let claims = with(application(), "iss", json!(format!("{}/", scene.site.base)));
        SIGNER.sign(&with(claims, name, value))
    };
    let tokens = [
        claims("exp", json!(NOW - 1_000)),
        claims("aud", json!("x")),
        claims("tid", json!(OTHER_TENANT)),
        scene.site.token_by(&STRANGER, "one"),
        scene.site.token_by(&SIGNER.signing_by(crate::token::algorithm::Algorithm::Ps256), "one"),
        "a.b.c".to_owned(),
    ];
    for token in tokens {
        assert!(scene.verify(&token).await.is_some());
    }
    assert_eq!(scene.site.count_hits(), 0);
}
