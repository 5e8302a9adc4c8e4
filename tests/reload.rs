//! A policy that changes while calls flow: whole or not at all, nothing lost, the last good set in force.

mod corpus;
mod load;
mod wrong;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::snapshot::version;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Clock;

use crate::support::gateway::{
    BEGINNING, Setup, TestGateway, WORKSTATION, issuer, playbooks, policy, portal, rewritten,
    without_idle_keys, write_policy,
};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{until, within_deadline};
use load::marked;

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

// === what is read, and when ===

#[tokio::test]
async fn a_set_that_is_written_slowly_is_read_when_it_is_whole() {
    // A busy machine may stretch a pause beyond the quiet time, and then reading is right: that shows nothing.
    let mut torn = 0;
    for _ in 0..10 {
        match written_slowly().await {
            Some(Read::Whole) => return,
            Some(Read::Torn) => torn += 1,
            None => {}
        }
        assert!(
            torn < 3,
            "sets whose files came within 150 ms of each other were read before they were whole"
        );
    }
    panic!("the machine did not keep the pauses, ten times");
}

/// How a set was read.
enum Read {
    /// As a whole, and once.
    Whole,
    /// Otherwise, which also is what a gateway does that was itself told too late.
    Torn,
}

/// Writes a set file by file, with pauses that are shorter than the quiet time but together much longer; none if the
/// machine did not keep the pauses.
async fn written_slowly() -> Option<Read> {
    let (old, new) = (marked("a"), marked("b"));
    let folder = Folder::new(&old);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let mut written = Clock::System.steady();
    for file in new.iter().filter(|file| Some(file.text()) != old.get(file.name()).map(SourceFile::text)) {
        std::fs::write(folder.file(file.name()), file.text()).unwrap();
        for _ in 0..3 {
            Clock::System.sleep(Duration::from_millis(75)).await;
            std::fs::write(folder.file(".draft.toml"), "being written").unwrap();
            let now = Clock::System.steady();
            if now.since(written) > Duration::from_millis(150) {
                return None;
            }
            written = now;
            if gateway.server().policies.load().version != version(&old) {
                return Some(Read::Torn);
            }
        }
    }
    in_force(&gateway, &new).await;
    within_deadline("a reload that is counted", async { while metric(&gateway, LOADED).await == 0 {} }).await;
    let counts = (metric(&gateway, LOADED).await, metric(&gateway, FAILED).await);
    Some(if counts == (1, 0) { Read::Whole } else { Read::Torn })
}

#[tokio::test]
async fn what_others_write_beside_the_folder_keeps_nobody_waiting() {
    let folder = Folder::new(&collects(5));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let beside = folder.parent.path().join("log");
    // A folder that never comes to rest is read after five seconds, each time; a busy machine is late now and then.
    for count in 6..11 {
        let files = collects(count);
        let started = Clock::System.steady();
        folder.write(Way::InPlace, &files);
        within_deadline("the new policy", async {
            while gateway.server().policies.load().version != version(&files) {
                std::fs::write(&beside, "a line").unwrap();
                Clock::System.sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        if Clock::System.steady().since(started) < Duration::from_secs(3) {
            return;
        }
    }
    panic!("no new policy within 3 s, five times");
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

    // The folder is looked at once more when its watcher is in place: that is over when this is in force.
    let watched = |text: &str| {
        let mut files = with(text);
        files.insert(SourceFile::new(
            "roles.toml",
            policy().get("roles.toml").unwrap().text().to_owned() + "# seen",
        ));
        files
    };
    std::fs::write(folder.file("roles.toml"), watched("").get("roles.toml").unwrap().text()).unwrap();
    in_force(&gateway, &watched(policy().get("limits.toml").unwrap().text())).await;

    std::fs::write(&limits, "# asked for").unwrap();
    gateway.server().policies.ask();
    in_force(&gateway, &watched("# asked for")).await;

    std::fs::write(&limits, "# found by the poll").unwrap();
    let (found, expected) = (&gateway.server().policies, version(&watched("# found by the poll")));
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
    folder.write(Way::RenameOver, &files);
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
async fn a_reload_says_which_limits_lack_times_since_they_grew_and_for_how_long() {
    let folder = Folder::new(&collects(5));
    let audit = folder.parent.path().join("audit.jsonl");
    let upstream = upstream();
    let gateway = Setup::new(upstream.address()).policy_folder(&folder.path).audit(&audit).start();
    // Each is one file, which is never half there.
    for count in [4, 9, 8] {
        folder.write(Way::RenameOver, &collects(count));
        in_force(&gateway, &collects(count)).await;
    }
    folder.write(Way::RenameOver, &policy());
    in_force(&gateway, &policy()).await;
    let lacking = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["event"] == "policy").map(|line| line["lacking_s"].clone()).collect()
    };
    until("the start and four reloads in the audit", || lacking().len() == 5).await;
    let null = serde_json::Value::Null;
    let expected =
        [null.clone(), null.clone(), json!({ "collect": 60.0 }), null, json!({ "collect": 3_600.0 })];
    assert_eq!(lacking(), expected);
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
        without_idle_keys(files)
    };
    let folder = Folder::new(&with(collects(5)));
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    let keys = || {
        let state = gateway.server().policies.load().verifier.issuers(&gateway.clock).next().unwrap();
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

#[tokio::test]
async fn an_inventory_that_is_fetched_anew_is_young_again_even_if_it_says_the_same() {
    let folder = Folder::new(&policy());
    let fetched = |ago: u64| {
        let file = std::fs::File::options().write(true).open(folder.file("devices.csv")).unwrap();
        let beginning = Duration::from_secs(BEGINNING.unix_seconds() as u64);
        file.set_modified(UNIX_EPOCH + beginning - Duration::from_secs(ago)).unwrap();
    };
    fetched(1_000);
    let upstream = upstream();
    let gateway = start(&folder, upstream.address());
    assert_eq!(metric(&gateway, "tollgate_inventory_age_seconds ").await, 1_000);
    fetched(10);
    let age = async { while metric(&gateway, "tollgate_inventory_age_seconds ").await != 10 {} };
    within_deadline("the inventory's new age", age).await;
    assert_eq!(metric(&gateway, LOADED).await, 0);
}
