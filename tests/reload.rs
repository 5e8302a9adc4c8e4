//! A policy that changes while calls flow: whole or not at all, nothing lost, the last good set in force.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::id::{ApplicationId, UserId};
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, PORTAL, READERS, Setup, TestGateway, WORKSTATION, issuer, playbooks, policy, portal, rewritten,
    token, write_policy,
};
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{until, within_deadline};

/// An application that one version lets collect, and the other does not.
const SWITCH: ApplicationId = ApplicationId::from_u128(0xa3);

/// How often a policy changes under load.
const CHANGES: usize = 24;

/// A policy folder in a folder of its own, so that it can be replaced as a whole.
struct Folder {
    parent: TempDir,
    path: PathBuf,
}

/// How an operator's tool writes a policy set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Into the files that are there.
    InPlace,
    /// Into files beside them, which then take their names.
    RenameOver,
    /// Into a new folder, to which a link that all files lead through is swapped: a Kubernetes volume.
    LinkSwap,
}

// === impl Folder ===

impl Folder {
    fn new(files: &PolicyFiles) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("policy");
        std::fs::create_dir(&path).unwrap();
        write_policy(files, &path);
        Self { parent, path }
    }

    /// Laid out as Kubernetes lays out a volume.
    fn of_links(files: &PolicyFiles) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("policy");
        std::fs::create_dir(&path).unwrap();
        let folder = Self { parent, path };
        folder.write(Way::LinkSwap, files);
        for file in files.iter() {
            symlink(Path::new("..data").join(&**file.name()), folder.file(file.name())).unwrap();
        }
        folder
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes every file that says something else than before.
    fn write(&self, way: Way, files: &PolicyFiles) {
        let changed = |file: &&SourceFile| {
            std::fs::read_to_string(self.file(file.name())).is_ok_and(|text| text != file.text())
        };
        match way {
            Way::InPlace => {
                for file in files.iter().filter(changed) {
                    std::fs::write(self.file(file.name()), file.text()).unwrap();
                }
            }
            Way::RenameOver => {
                for file in files.iter().filter(changed) {
                    let beside = self.file(&format!(".{}.new", file.name()));
                    std::fs::write(&beside, file.text()).unwrap();
                    std::fs::rename(beside, self.file(file.name())).unwrap();
                }
            }
            Way::LinkSwap => {
                let old = std::fs::read_link(self.file("..data")).ok();
                let fresh = tempfile::Builder::new().prefix("..2026_").tempdir_in(&self.path).unwrap().keep();
                write_policy(files, &fresh);
                symlink(fresh.file_name().unwrap(), self.file("..data_tmp")).unwrap();
                std::fs::rename(self.file("..data_tmp"), self.file("..data")).unwrap();
                if let Some(old) = old {
                    std::fs::remove_dir_all(self.path.join(old)).unwrap();
                }
            }
        }
    }
}

fn upstream() -> RecordingUpstream {
    RecordingUpstream::start(Answer::json(201, &json!({ "id": "action-1" })), Clock::System)
}

fn start(folder: &Folder, upstream: SocketAddr) -> TestGateway {
    Setup::new(upstream).policy_folder(&folder.path).start()
}

/// Waits until this set is in force.
async fn in_force(gateway: &TestGateway, files: &PolicyFiles) {
    let expected = version(files);
    until("the new policy", || gateway.server().policies.load().version == expected).await;
}

/// The value of a metric's line that begins with this.
async fn metric(gateway: &TestGateway, line: &str) -> u64 {
    let page = gateway.admin("/metrics").await;
    let value = page.text().lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in {}", page.text()))
}

/// Waits until a metric has reached this: it is counted right after a set came into force.
async fn counted(gateway: &TestGateway, line: &str, count: u64) {
    within_deadline(line, async { while metric(gateway, line).await < count {} }).await;
    assert_eq!(metric(gateway, line).await, count);
}

const LOADED: &str = r#"tollgate_policy_reloads_total{result="ok"}"#;
const FAILED: &str = r#"tollgate_policy_reloads_total{result="failed"}"#;

// === under load ===

/// A set in which every fact says of which version it is: names of application, device group and limit, whether an
/// application may collect, and whether a role suffices.
fn marked(letter: &str) -> PolicyFiles {
    let (switch, reader) = match letter {
        "a" => (r#"["collect"]"#, r#"["View data", "Alerts investigation"]"#),
        _ => (r#"["package_uri"]"#, r#"["View data"]"#),
    };
    let files = rewritten(
        policy(),
        "operations.toml",
        r#"["100 per minute", "1500 per hour"]"#,
        r#"["500000 per hour"]"#,
    );
    let files = rewritten(files, "device-groups.toml", "Workstations", &format!("Workstations-{letter}"));
    let files = rewritten(files, "applications.toml", "Workstations", &format!("Workstations-{letter}"));
    let files = rewritten(files, "applications.toml", "\"playbooks\"", &format!("\"playbooks-{letter}\""));
    let last = "device_groups       = \"all\"\n";
    let entry = format!(
        "{last}\n[[application]]\nid = \"{SWITCH}\"\nname = \"switch-{letter}\"\noperations = {switch}\ndevice_groups = \"all\"\n"
    );
    let files = rewritten(files, "applications.toml", last, &entry);
    let role = "\"Reader\"\npermissions  = [\"View data\"]";
    let files = rewritten(files, "roles.toml", role, &format!("\"Reader\"\npermissions  = {reader}"));
    let limit = format!(
        "[[limit]]\nname = \"extra-{letter}\"\noperations = [\"collect\"]\nper = [\"application\"]\nwindows = [\"400000 per hour\"]\n"
    );
    rewritten(files, "limits.toml", "# Only the documented limits of operations.toml.", &limit)
}

/// What becomes of a call in a version, by its letter: it passes, or the reason why not.
type VerdictIn = fn(&str) -> &'static str;

/// Who calls under load, and what becomes of each call in a version.
fn callers() -> [(Caller, VerdictIn); 3] {
    let reader = Caller::user(UserId::from_u128(0xb3), "reader@test.example", PORTAL)
        .permissions(["Machine.CollectForensics"])
        .groups([READERS]);
    [
        (playbooks(), |_| "passes"),
        (Caller::application(SWITCH).permissions(["Machine.CollectForensics"]), |letter| match letter {
            "a" => "passes",
            _ => "application",
        }),
        (reader, |letter| if letter == "a" { "passes" } else { "missing_role" }),
    ]
}

/// The version that an answer shows, where it shows one.
fn letter_of(answer: &RawResponse) -> Option<&'static str> {
    let shown = answer.header("RateLimit-Policy")?;
    let named = |letter| shown.contains(&format!("\"extra-{letter}-hour\""));
    match (named("a"), named("b")) {
        (true, false) => Some("a"),
        (false, true) => Some("b"),
        both => panic!("{both:?} in {shown}"),
    }
}

async fn changes_under_load(way: Way, folder: Folder) {
    let versions = ["a", "b"].map(marked);
    let audit = folder.parent.path().join("audit.jsonl");
    let upstream = upstream();
    let setup = Setup::new(upstream.address()).policy_folder(&folder.path).audit(&audit).threads(2);
    let gateway = setup.start();

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..4 {
        let (stop, answered) = (stop.clone(), answered.clone());
        let mut client = gateway.connect().await;
        let callers = callers().map(|(caller, verdict)| (token(&caller), verdict));
        connections.spawn(async move {
            let mut playbooks_admitted = 0;
            while !stop.load(Ordering::Relaxed) {
                for (place, (token, verdict)) in callers.iter().enumerate() {
                    let answer = client.collect(token, WORKSTATION, COMMENT).await;
                    let reason = answer.header("Tollgate-Reason").unwrap_or("passes");
                    match letter_of(&answer) {
                        Some(letter) => assert_eq!(reason, verdict(letter), "{answer:?}"),
                        None => assert_eq!(reason, verdict("b"), "{answer:?}"),
                    }
                    assert_eq!(answer.status, if reason == "passes" { 201 } else { 403 });
                    playbooks_admitted += usize::from(place == 0);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Clock::System.sleep(Duration::from_millis(5)).await;
            }
            playbooks_admitted
        });
    }
    for change in 1..=CHANGES {
        let files = &versions[change % 2];
        folder.write(way, files);
        in_force(&gateway, files).await;
        // Each of the callers has been answered by it.
        let before = answered.load(Ordering::Relaxed);
        until("answers", || answered.load(Ordering::Relaxed) >= before + 24).await;
    }
    stop.store(true, Ordering::Relaxed);
    let admitted: usize = connections.join_all().await.iter().sum();

    counted(&gateway, LOADED, CHANGES as u64).await;
    assert_eq!(metric(&gateway, FAILED).await, 0);
    // Every call since the start counts, whatever version it was admitted by.
    let last = gateway.collect(&playbooks(), WORKSTATION).await;
    let left = format!("\"collect-hour\";r={};", 500_000 - admitted - 1);
    assert!(last.header("RateLimit").unwrap().contains(&left), "{left} in {last:?}");
    gateway.stop();

    let letters: BTreeMap<_, _> =
        versions.iter().map(|files| version(files).to_string()).zip(["a", "b"]).collect();
    audit_shows_no_mixture(&std::fs::read_to_string(audit).unwrap(), &letters);
}

/// Every fact of a line is of the version that the line names, and both lines of a call name the same.
fn audit_shows_no_mixture(audit: &str, letters: &BTreeMap<String, &str>) {
    let mut by_request: BTreeMap<String, String> = BTreeMap::new();
    let (mut calls, mut loads) = (0, 0);
    for line in audit.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let named = line["policy_version"].as_str().unwrap();
        let letter = letters[named];
        if line["event"] == "policy" {
            loads += 1;
            continue;
        }
        calls += 1;
        let id = line["request_id"].as_str().unwrap().to_owned();
        assert_eq!(by_request.entry(id).or_insert_with(|| named.to_owned()), named, "{line}");
        let words = [&line["application_name"], &line["devices"], &line["limits_left"]].map(Value::to_string);
        let other = if letter == "a" { "-b\"" } else { "-a\"" };
        assert!(!words.concat().contains(other), "{letter}: {line}");
        if line["event"] == "admitted" {
            assert!(words[2].contains(&format!("extra-{letter}")), "{line}");
        } else if line["event"] == "refused" {
            assert_eq!(letter, "b", "{line}");
        }
    }
    assert_eq!(loads, CHANGES + 1);
    assert!(calls > CHANGES * 24, "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_written_in_place_change_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::InPlace, Folder::new(&marked("a"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_renamed_over_others_change_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::RenameOver, Folder::new(&marked("a"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_as_kubernetes_does_changes_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::LinkSwap, Folder::of_links(&marked("a"))).await;
}

// === what is read, and when ===

#[tokio::test]
async fn a_set_that_is_written_slowly_is_read_when_it_is_whole() {
    let (old, new) = (marked("a"), marked("b"));
    let folder = Folder::new(&old);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    // File by file, with pauses that are shorter than the quiet time but together much longer.
    for file in new.iter().filter(|file| Some(file.text()) != old.get(file.name()).map(SourceFile::text)) {
        std::fs::write(folder.file(file.name()), file.text()).unwrap();
        for _ in 0..3 {
            Clock::System.sleep(Duration::from_millis(75)).await;
            std::fs::write(folder.file(".draft.toml"), "being written").unwrap();
            assert_eq!(gateway.server().policies.load().version, version(&old));
        }
    }
    in_force(&gateway, &new).await;
    counted(&gateway, LOADED, 1).await;
    assert_eq!(metric(&gateway, FAILED).await, 0);
}

#[tokio::test]
async fn what_others_write_beside_the_folder_keeps_nobody_waiting() {
    let folder = Folder::new(&collects(5));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let beside = folder.parent.path().join("log");
    let soon = Clock::System.timeout(Duration::from_secs(3), async {
        folder.write(Way::InPlace, &collects(6));
        while gateway.server().policies.load().version != version(&collects(6)) {
            std::fs::write(&beside, "a line").unwrap();
            Clock::System.sleep(Duration::from_millis(20)).await;
        }
    });
    soon.await.expect("the new policy within 3 s");
}

#[tokio::test]
async fn a_folder_that_never_comes_to_rest_is_read_all_the_same() {
    let folder = Folder::new(&collects(5));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    folder.write(Way::InPlace, &collects(6));
    within_deadline("the new policy", async {
        while gateway.server().policies.load().version != version(&collects(6)) {
            std::fs::write(folder.file("draft"), "again").unwrap();
            Clock::System.sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_event_tells_is_found_by_asking_and_within_half_a_minute() {
    let folder = Folder::new(&policy());
    let upstream = upstream();
    // The file lies where nobody watches.
    let elsewhere = tempfile::tempdir().unwrap();
    let limits = elsewhere.path().join("limits.toml");
    std::fs::rename(folder.file("limits.toml"), &limits).unwrap();
    symlink(&limits, folder.file("limits.toml")).unwrap();
    let gateway = start(&folder, upstream.address());
    let with = |text: &str| {
        let mut files = policy();
        files.insert(SourceFile::new("limits.toml", text));
        files
    };

    std::fs::write(&limits, "# asked for").unwrap();
    gateway.server().policies.ask();
    in_force(&gateway, &with("# asked for")).await;

    std::fs::write(&limits, "# found by the poll").unwrap();
    let (found, expected) = (&gateway.server().policies, version(&with("# found by the poll")));
    until("the poll", || {
        // Again and again: the poll may begin its half minute after an advance.
        gateway.hand.advance(Duration::from_secs(30));
        found.load().version == expected
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_by_another_is_followed_and_watched() {
    let [first, second, third] = [5, 6, 7].map(collects);
    let folder = Folder::new(&first);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let fresh = folder.parent.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    write_policy(&second, &fresh);
    std::fs::rename(&folder.path, folder.parent.path().join("old")).unwrap();
    std::fs::rename(fresh, &folder.path).unwrap();
    in_force(&gateway, &second).await;
    folder.write(Way::InPlace, &third);
    in_force(&gateway, &third).await;
}

#[tokio::test]
async fn a_set_that_says_what_it_said_is_not_loaded_again() {
    let folder = Folder::new(&policy());
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let before = gateway.server().policies.load();
    gateway.hand.advance(Duration::from_secs(5));

    // New files with the same text, and somebody who asks.
    for file in policy().iter() {
        let beside = folder.file(".beside");
        std::fs::write(&beside, file.text()).unwrap();
        std::fs::rename(beside, folder.file(file.name())).unwrap();
    }
    gateway.server().policies.ask();
    // A file that is none of the set's.
    std::fs::write(folder.file("notes.txt"), "nothing").unwrap();
    // And one that is: when this is in force, all that went before has been looked at.
    let files = collects(9);
    assert!(Arc::ptr_eq(&before, &gateway.server().policies.load()));
    folder.write(Way::InPlace, &files);
    in_force(&gateway, &files).await;
    counted(&gateway, LOADED, 1).await;
    assert_eq!(metric(&gateway, FAILED).await, 0);
}

// === what a reload keeps ===

/// The set with another documented limit for `collect`.
fn collects(per_minute: u32) -> PolicyFiles {
    let limits = format!(r#"["{per_minute} per minute"]"#);
    rewritten(policy(), "operations.toml", r#"["100 per minute", "1500 per hour"]"#, &limits)
}

#[tokio::test]
async fn what_was_used_stays_used_when_a_limit_grows_or_shrinks() {
    let folder = Folder::new(&collects(5));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let collect = async || gateway.collect(&portal(), WORKSTATION).await;
    for _ in 0..3 {
        collect().await.assert_status(201);
    }
    // How many may be admitted in a minute, and how many are left after one more, if that is admitted.
    for (count, left) in
        [(5, Some(1)), (8, Some(3)), (6, Some(0)), (2, None), (5, None), (7, Some(0)), (100, Some(92))]
    {
        let files = collects(count);
        folder.write(Way::InPlace, &files);
        in_force(&gateway, &files).await;
        let answer = collect().await;
        match left {
            Some(left) => {
                answer.assert_status(201);
                let expected = format!("\"collect-minute\";r={left};t=60");
                assert_eq!(answer.header("RateLimit"), Some(&*expected), "{count} per minute");
            }
            None => {
                answer.assert_status(429);
                assert_eq!(answer.header("Retry-After"), Some("60"), "{count} per minute");
            }
        }
    }
    // A limit that is gone and comes back is the same limit.
    let without = rewritten(policy(), "operations.toml", r#"["100 per minute", "1500 per hour"]"#, "[]");
    folder.write(Way::InPlace, &without);
    in_force(&gateway, &without).await;
    assert_eq!(collect().await.header("RateLimit"), None);
    folder.write(Way::InPlace, &collects(100));
    in_force(&gateway, &collects(100)).await;
    assert_eq!(collect().await.header("RateLimit"), Some("\"collect-minute\";r=91;t=60"));
}

#[tokio::test]
async fn keys_that_were_fetched_survive_a_reload_of_other_files() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = issuer().router(format!("http://{address}"));
    let mut server = JoinSet::new();
    server.spawn(
        async move { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await },
    );
    let issuers = format!(
        r#"
        [[issuer]]
        name      = "entra"
        issuer    = "https://issuer.example/{{tid}}/"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["https://api.securitycenter.microsoft.com"]
        discovery = "http://{address}/{{tid}}/.well-known/openid-configuration"
        "#
    );
    let with = |mut files: PolicyFiles| {
        files.insert(SourceFile::new("issuers.toml", issuers.as_str()));
        files
    };
    let folder = Folder::new(&with(collects(5)));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let keys = || {
        let state = gateway.server().policies.load().verifier.issuers().next().unwrap();
        (state.keys, state.fetched, state.error)
    };
    until("the keys", || keys().0 == 1).await;
    let fetched = keys();
    // From now on nobody answers at the issuer's address.
    server.shutdown().await;

    gateway.hand.advance(Duration::from_secs(1));
    folder.write(Way::InPlace, &with(collects(6)));
    in_force(&gateway, &with(collects(6))).await;
    assert_eq!(keys(), fetched);
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    assert_eq!(gateway.admin("/readyz").await.status, 200);
}

// === what is wrong ===

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
    let good = collects(1_000);
    let folder = Folder::new(&good);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let policies = &gateway.server().policies;
    let in_force_now = policies.load();
    for (number, Spoilt { words, spoil, problem }) in SPOILT.iter().enumerate() {
        // What is right in a set that has a mistake does not come into force either.
        folder.write(Way::InPlace, &collects(7));
        spoil(&folder);
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
        write_policy(&good, &folder.path);
        until("the mistake to be gone", || policies.refused().is_none()).await;
        assert!(Arc::ptr_eq(&in_force_now, &policies.load()), "{words}");
        assert_eq!(gateway.admin("/policy").await.json().get("refused"), None, "{words}");
    }
    assert_eq!(metric(&gateway, LOADED).await, 0);

    // And a better one goes live.
    (SPOILT[0].spoil)(&folder);
    until("the last mistake", || policies.refused().is_some()).await;
    let better = collects(999);
    write_policy(&better, &folder.path);
    in_force(&gateway, &better).await;
    assert!(policies.refused().is_none());
    counted(&gateway, LOADED, 1).await;
}

#[tokio::test]
async fn every_mistake_of_a_bad_set_is_reported_at_once() {
    let folder = Folder::new(&policy());
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    for place in [0, 3, 4] {
        (SPOILT[place].spoil)(&folder);
    }
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
}
