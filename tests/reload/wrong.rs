//! Sets with mistakes: refused whole, every mistake told, the last good set in force.

use std::sync::Arc;

use tollgate::snapshot::version;

use super::{FAILED, Folder, LOADED, Way, collects, counted, in_force, metric, start, upstream};
use crate::support::gateway::{WORKSTATION, playbooks, policy, write_policy};
use crate::support::{at_once, tried, until};

/// A way to spoil a set, and what is said of it.
struct Spoilt {
    words: &'static str,
    spoil: fn(&Folder),
    problem: &'static str,
}

const SPOILT: [Spoilt; 6] = [
    Spoilt {
        words: "a word that is none",
        spoil: |folder| {
            let text = std::fs::read_to_string(folder.file("roles.toml")).unwrap();
            std::fs::write(folder.file("roles.toml"), text.replace("\"View data\"", "\"View dada\""))
                .unwrap();
        },
        problem: "roles.toml:3:17: ",
    },
    Spoilt {
        words: "a file that is half written",
        spoil: |folder| {
            let text = std::fs::read_to_string(folder.file("operations.toml")).unwrap();
            let half = text.find("collectInvestigationPackage").unwrap();
            std::fs::write(folder.file("operations.toml"), &text[..half]).unwrap();
        },
        problem: "operations.toml:4:",
    },
    Spoilt {
        words: "a file that is deleted",
        spoil: |folder| std::fs::remove_file(folder.file("limits.toml")).unwrap(),
        problem: "limits.toml: the policy set lacks this file",
    },
    Spoilt {
        words: "a name that another file does not have",
        spoil: |folder| {
            let text = std::fs::read_to_string(folder.file("applications.toml")).unwrap();
            std::fs::write(folder.file("applications.toml"), text.replace("Workstations", "Laptops"))
                .unwrap();
        },
        problem: "applications.toml:5:18: unknown device group `Laptops`",
    },
    Spoilt {
        words: "a device that is listed twice",
        spoil: |folder| {
            let text = std::fs::read_to_string(folder.file("devices.csv")).unwrap();
            let last = text.lines().last().unwrap();
            std::fs::write(folder.file("devices.csv"), format!("{text}{last}\n")).unwrap();
        },
        problem: "devices.csv:5:1: the device `3333333333333333333333333333333333333333` is listed twice",
    },
    Spoilt {
        words: "a file that is not text",
        spoil: |folder| std::fs::write(folder.file("limits.toml"), b"# \xff").unwrap(),
        problem: "limits.toml",
    },
];

#[tokio::test]
async fn a_bad_set_is_refused_whole_and_the_last_good_one_stays_until_a_good_one_comes() {
    tried(async || bad_sets_come_and_go().await).await;
}

/// None if a set was not written at once, so that half of it may have been read.
async fn bad_sets_come_and_go() -> Option<()> {
    let good = collects(1_000);
    let folder = Folder::new(&good);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let policies = &gateway.server().policies;
    let in_force_now = policies.load();
    for (number, Spoilt { words, spoil, problem }) in SPOILT.iter().enumerate() {
        // What is right in a set that has a mistake does not come into force either.
        at_once(|| {
            folder.write(Way::InPlace, &collects(7));
            spoil(&folder);
        })?;
        until(words, || policies.refused().is_some()).await;
        let page = gateway.admin("/policy").await.json();
        let problems = page["refused"]["problems"].as_array().unwrap().clone();
        assert!(problems.iter().any(|found| found.as_str().unwrap().starts_with(problem)), "{words}: {page}");
        assert_eq!(page["version"], version(&good).to_string(), "{words}");
        assert!(Arc::ptr_eq(&in_force_now, &policies.load()), "{words}");
        counted(&gateway, FAILED, number as u64 + 1).await;
        assert_eq!(gateway.admin("/readyz").await.status, 200, "{words}");
        let answer = gateway.collect(&playbooks(), WORKSTATION).await;
        answer.assert_status(201);
        assert!(answer.header("RateLimit-Policy").unwrap().contains("q=1000;"), "{words}");

        // Back to what is in force: nothing to load, and nothing wrong any more.
        at_once(|| write_policy(&good, &folder.path))?;
        until("the mistake to be gone", || policies.refused().is_none()).await;
        assert!(Arc::ptr_eq(&in_force_now, &policies.load()), "{words}");
        assert_eq!(gateway.admin("/policy").await.json().get("refused"), None, "{words}");
    }
    assert_eq!(metric(&gateway, LOADED).await, 0);

    // And a better one goes live.
    at_once(|| (SPOILT[0].spoil)(&folder))?;
    until("the last mistake", || policies.refused().is_some()).await;
    let better = collects(999);
    at_once(|| write_policy(&better, &folder.path))?;
    in_force(&gateway, &better).await;
    assert!(policies.refused().is_none());
    counted(&gateway, LOADED, 1).await;
    Some(())
}

#[tokio::test]
async fn every_mistake_of_a_bad_set_is_reported_at_once() {
    tried(async || mistakes_come_together().await).await;
}

/// None if they were not written at once, so that some may have been read without the others.
async fn mistakes_come_together() -> Option<()> {
    let folder = Folder::new(&policy());
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    at_once(|| [0, 3, 4].map(|place: usize| SPOILT[place].spoil).iter().for_each(|spoil| spoil(&folder)))?;
    let policies = &gateway.server().policies;
    until("the mistakes", || policies.refused().is_some()).await;
    let page = gateway.admin("/policy").await.json();
    for place in [0, 3, 4] {
        let problem = SPOILT[place].problem;
        let problems = page["refused"]["problems"].as_array().unwrap();
        assert!(
            problems.iter().any(|found| found.as_str().unwrap().starts_with(problem)),
            "{problem}: {page}"
        );
    }
    Some(())
}
