use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::*;
use crate::time::Clock;

/// The shipped set in a folder of its own.
fn shipped() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// A store whose clock stands still: nothing is noticed by looking every now and then.
fn open(folder: &Path) -> PolicyStore {
    let (clock, _) = Clock::manual(Wall::default());
    PolicyStore::open(PolicySource::Folder(folder.to_owned()), clock).unwrap()
}

const EXTRA: &str = r#"
[[operation]]
name        = "extra"
method      = "GET"
path        = "/api/extra"
application = []
delegated   = []
"#;

#[test]
fn a_file_in_the_folder_of_operations_belongs_to_the_set() {
    let folder = shipped();
    fs::create_dir_all(folder.path().join("operations")).unwrap();
    let store = open(folder.path());
    let before = store.load().counts().operations;
    fs::write(folder.path().join("operations/extra.toml"), EXTRA).unwrap();
    let Some(Reload::Loaded(snapshot)) = store.reload_if(Due::IfDifferent) else { panic!("not loaded") };
    assert_eq!(snapshot.counts().operations, before + 1);

    fs::write(folder.path().join("operations/extra.toml"), EXTRA.replace("[]", "[7]")).unwrap();
    let Some(Reload::Refused(problems)) = store.reload_if(Due::IfDifferent) else { panic!("not refused") };
    assert!(problems[0].to_string().starts_with("operations/extra.toml:6:"), "{problems:?}");
}

#[test]
fn drafts_hidden_folders_and_cases_do_not_belong_to_the_set() {
    let folder = shipped();
    let store = open(folder.path());
    fs::create_dir_all(folder.path().join("operations")).unwrap();
    fs::write(folder.path().join("operations/.extra.toml"), EXTRA).unwrap();
    fs::write(folder.path().join("operations/extra.toml~"), EXTRA).unwrap();
    for hidden in [".drafts", "tests"] {
        fs::create_dir_all(folder.path().join(hidden)).unwrap();
        fs::write(folder.path().join(hidden).join("operations.toml"), EXTRA).unwrap();
    }
    assert!(store.reload_if(Due::IfDifferent).is_none());
}

#[test]
fn a_file_that_nobody_reads_is_a_mistake_wherever_it_lies() {
    let unread = "no part of the policy reads this file, so that nothing in it is in force";
    for (name, said) in [
        ("limit.toml", "; did you mean `limits.toml`?"),
        ("operation/extra.toml", "; did you mean `operations`?"),
        ("drafts/operations.toml", ""),
        ("devices/groups.toml", ""),
        ("keys.json", ""),
        ("Limits.toml", "; did you mean `limits.toml`?"),
        ("limits.TOML", "; did you mean `limits.toml`?"),
        ("operations/x/y.toml", "; did you mean `operations/y.toml`?"),
        ("devices/emea/page.json", "; did you mean `devices/page.json`?"),
        ("devices/emea/2026/page.csv", "; did you mean `devices/page.csv`?"),
        ("a/b/c/d/e/f/g/h/roles.toml", ""),
        ("devices.csv.d/tests/devices.csv", ""),
    ] {
        let folder = shipped();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        let problems =
            PolicyStore::open(PolicySource::Folder(folder.path().into()), Clock::System).unwrap_err();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [format!("{name}: {unread}{said}")]);
    }
}

/// What is said of a set that is refused.
fn refused(folder: &Path) -> Vec<String> {
    let problems = PolicyStore::open(PolicySource::Folder(folder.to_owned()), Clock::System).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_link_that_leads_nowhere_is_a_mistake_since_it_could_be_a_folder_of_the_set() {
    let folder = shipped();
    let devices = folder.path().join("devices.csv");
    fs::write(&devices, "Device ID,Device Name\n").unwrap();
    for name in ["devices", "inventory", "operations/more", "notes.txt"] {
        let link = folder.path().join(name);
        symlink("/nowhere/at/all", &link).unwrap();
        assert_eq!(
            refused(folder.path()),
            [format!("{name}: cannot be read: No such file or directory (os error 2)")]
        );
        fs::remove_file(link).unwrap();
    }
    symlink("/nowhere/at/all", folder.path().join(".draft")).unwrap();
    open(folder.path());
}

#[test]
fn an_inventory_whose_link_begins_to_lead_nowhere_stays_in_force() {
    let (folder, elsewhere) = (shipped(), tempfile::tempdir().unwrap());
    let (real, moved) = (elsewhere.path().join("real"), elsewhere.path().join("moved"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("all.csv"), format!("Device ID,Device Name\n{},ws-1\n", "1".repeat(40))).unwrap();
    fs::write(folder.path().join("devices.csv"), "Device ID,Device Name\n").unwrap();
    symlink(&real, folder.path().join("devices")).unwrap();
    let store = open(folder.path());
    assert_eq!(store.load().counts().devices, 1);
    fs::rename(&real, &moved).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Refused(_))));
    assert_eq!(store.load().counts().devices, 1);
    fs::rename(&moved, &real).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Unchanged)));
    assert!(store.refused().is_none());
}

#[test]
fn folders_without_end_are_a_mistake_and_are_left_after_a_while() {
    let leads_back =
        |name: &str| format!("{name}: cannot be read: it leads back to a folder that it lies in");
    for (name, to) in [("again", "."), ("operations/again", ".."), ("operations/again", ".")] {
        let folder = shipped();
        symlink(to, folder.path().join(name)).unwrap();
        assert!(refused(folder.path()).contains(&leads_back(name)), "{name} -> {to}");
    }
    // Two that lead to each other.
    let folder = shipped();
    for (name, to) in [("a", "b"), ("b", "a")] {
        fs::create_dir(folder.path().join(name)).unwrap();
        symlink(format!("../{to}"), folder.path().join(name).join(to)).unwrap();
    }
    assert_eq!(refused(folder.path()), [leads_back("a/b/a"), leads_back("b/a/b")]);

    let folder = shipped();
    fs::create_dir_all(folder.path().join("1/2/3/4/5/6/7/8/9/10")).unwrap();
    assert_eq!(refused(folder.path()), ["1/2/3/4/5/6/7/8/9: cannot be read: it lies deeper than 8 folders"]);

    // Each holds the next one ten times: ten million folders of eight.
    let folder = shipped();
    for level in 0..7 {
        let here = folder.path().join(format!("level-{level}"));
        fs::create_dir(&here).unwrap();
        for number in 0..10 {
            symlink(format!("../level-{}", level + 1), here.join(number.to_string())).unwrap();
        }
    }
    fs::create_dir(folder.path().join("level-7")).unwrap();
    let said = refused(folder.path());
    assert!(said.len() == 1 && said[0].ends_with(": more than 1000 folders are before it"), "{said:?}");
}

#[test]
fn cases_lie_in_the_folder_of_cases_at_whatever_depth() {
    let folder = shipped();
    let tests = folder.path().join("tests");
    let source = PolicySource::Folder(folder.path().to_owned());
    let names =
        || -> Vec<String> { source.cases().unwrap().iter().map(|file| file.name().to_string()).collect() };
    let before = names();
    fs::create_dir(tests.join("x")).unwrap();
    fs::write(tests.join("x/y.toml"), "").unwrap();
    let mut expected = before.clone();
    expected.push("tests/x/y.toml".to_owned());
    expected.sort();
    assert_eq!(names(), expected);
    // A file system's own folder is nobody's policy, whoever may read it.
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join("lost+found/x.toml"), "").unwrap();
    open(folder.path());

    fs::remove_dir_all(&tests).unwrap();
    assert_eq!(names(), Vec::<String>::new());
    symlink("gone", &tests).unwrap();
    let said: Vec<_> = source.cases().unwrap_err().iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("cannot be read: No such file"), "{said:?}");
    open(folder.path());
}

/// Writes an operation into the set, which lies in `folder`, and says whether the store that was opened by the name
/// `named` noticed it.
async fn notices_an_operation(folder: &Path, named: &Path) -> bool {
    let store = Arc::new(open(named));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watching = tokio::spawn(store.clone().watch(move |reload| {
        let _ = tell.send(matches!(reload, Reload::Loaded(_)));
    }));
    // The watch is set up in the task's first step.
    tokio::task::yield_now().await;
    fs::write(folder.join("operations/extra.toml"), EXTRA).unwrap();
    let noticed = Clock::System.timeout(Duration::from_secs(10), told.recv()).await;
    watching.abort();
    matches!(noticed, Ok(Some(true)))
}

#[tokio::test]
async fn a_change_in_the_folder_of_operations_is_noticed() {
    let folder = shipped();
    assert!(notices_an_operation(folder.path(), folder.path()).await);
}

#[tokio::test]
async fn a_change_in_a_folder_that_is_named_from_where_the_process_is_is_noticed() {
    let folder = shipped();
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let named = up.join(folder.path().strip_prefix("/").unwrap());
    assert!(named.is_relative() && named.is_dir(), "{named:?}");
    assert!(notices_an_operation(folder.path(), &named).await);
}

#[test]
fn an_inventory_that_was_refused_with_its_set_has_no_date() {
    let folder = shipped();
    let store = open(folder.path());
    let before = store.inventory_date();
    fs::write(folder.path().join("roles.toml"), "roles").unwrap();
    let file = fs::File::options().write(true).open(folder.path().join("devices.csv")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Refused(_))));
    assert_eq!(store.inventory_date(), before);
}

#[test]
fn a_folder_that_cannot_be_read_is_spoken_of_once_and_again_when_someone_asks() {
    let folder = shipped();
    let (policies, elsewhere) = (folder.path().join("set"), folder.path().join("elsewhere"));
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"), &policies);
    let store = open(&policies);
    fs::rename(&policies, &elsewhere).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Refused(_))));
    let first = store.refused().unwrap();
    assert!(store.reload_if(Due::IfDifferent).is_none());
    assert_eq!(store.refused().unwrap().at, first.at);
    assert!(matches!(store.reload_if(Due::Now), Some(Reload::Refused(_))));
    // Back, file by file as it was: there is nothing wrong any more.
    fs::rename(&elsewhere, &policies).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Unchanged)));
    assert!(store.refused().is_none());
}

#[test]
fn whoever_looks_at_the_store_does_not_wait_for_a_reload() {
    let folder = shipped();
    let store = open(folder.path());
    let _compiling = store.turn.lock();
    assert!(store.refused().is_none() && store.inventory_date().is_some());
    assert!(!store.load().version.is_empty());
}

#[test]
fn an_inventory_that_is_fetched_anew_is_new_where_it_can_be_too_old_even_if_it_says_the_same() {
    let folder = shipped();
    let fetch = |seconds: u64| {
        let file = fs::File::options().write(true).open(folder.path().join("devices.csv")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        Some(Wall::from_unix_seconds(seconds as i64))
    };
    let store = open(folder.path());
    let date = fetch(1_000_000);
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Unchanged)));
    assert_eq!(store.inventory_date(), date);

    let groups = folder.path().join("device-groups.toml");
    fs::write(&groups, format!("max_age = \"1h\"\n{}", fs::read_to_string(&groups).unwrap())).unwrap();
    let Some(Reload::Loaded(before)) = store.reload_if(Due::IfDifferent) else { panic!("not loaded") };
    assert_eq!(before.policies.inventory_date(), date);
    let date = fetch(2_000_000);
    let Some(Reload::Loaded(after)) = store.reload_if(Due::IfDifferent) else { panic!("not loaded") };
    assert_eq!((&after.version, after.policies.inventory_date()), (&before.version, date));
    assert!(store.reload_if(Due::IfDifferent).is_none());
    assert!(matches!(store.reload(), Reload::Unchanged));
}

#[test]
fn an_edit_elsewhere_reads_no_inventory_and_a_write_to_it_or_a_request_reads_it_all() {
    let folder = shipped();
    let devices = folder.path().join("devices.csv");
    let store = open(folder.path());
    let read = || {
        let (files, _) = store.source.read(&store.turn.lock().known).unwrap();
        assert!(files.stamps().any(|(name, _)| &*name == "devices.csv"));
        files.get("devices.csv").is_some()
    };
    assert!(!read());
    fs::write(folder.path().join("operations/extra.toml"), EXTRA).unwrap();
    assert!(!read());
    let Some(Reload::Loaded(after)) = store.reload_if(Due::IfDifferent) else { panic!("not loaded") };
    assert_eq!(after.version, version(&store.source.files().unwrap()));
    assert!(!read());

    // The same text and the same times: the system alone knows that somebody wrote.
    let (text, modified) = (fs::read(&devices).unwrap(), fs::metadata(&devices).unwrap().modified().unwrap());
    fs::write(&devices, &text).unwrap();
    fs::File::options().write(true).open(&devices).unwrap().set_modified(modified).unwrap();
    assert!(read());
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Unchanged)));
    assert!(!read());
    fs::create_dir(folder.path().join("devices")).unwrap();
    fs::write(folder.path().join("devices/more.csv"), "Device ID,Device Name\n").unwrap();
    assert!(read());
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Loaded(_))));
    assert!(!read());
    fs::remove_file(folder.path().join("devices/more.csv")).unwrap();
    assert!(read());
    assert!(matches!(store.reload_if(Due::Now), Some(Reload::Loaded(_))));
}

#[test]
fn a_set_that_a_request_carries_to_its_end_is_freed_by_the_thread_that_compiles() {
    let folder = shipped();
    let store = open(folder.path());
    let carried = store.load();
    let seen = Arc::downgrade(&carried);
    fs::write(folder.path().join("operations/extra.toml"), EXTRA).unwrap();
    assert!(matches!(store.reload_if(Due::IfDifferent), Some(Reload::Loaded(_))));
    assert_eq!(store.free(), RETIRED);
    drop(carried);
    assert!(seen.upgrade().is_some());
    assert_eq!(store.free(), POLL);
    assert!(seen.upgrade().is_none());
}
