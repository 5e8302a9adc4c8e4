use std::path::Path;

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
fn drafts_and_other_folders_do_not_belong_to_the_set() {
    let folder = shipped();
    let store = open(folder.path());
    fs::create_dir_all(folder.path().join("operations")).unwrap();
    fs::write(folder.path().join("operations/.extra.toml"), EXTRA).unwrap();
    fs::write(folder.path().join("operations/extra.toml~"), EXTRA).unwrap();
    fs::create_dir(folder.path().join("drafts")).unwrap();
    fs::write(folder.path().join("drafts/operations.toml"), EXTRA).unwrap();
    assert!(store.reload_if(Due::IfDifferent).is_none());
}

#[tokio::test]
async fn a_change_in_the_folder_of_operations_is_noticed() {
    let folder = shipped();
    fs::create_dir_all(folder.path().join("operations")).unwrap();
    let store = Arc::new(open(folder.path()));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watching = tokio::spawn(store.clone().watch(move |reload| {
        let _ = tell.send(matches!(reload, Reload::Loaded(_)));
    }));
    // The watch is set up in the task's first step.
    tokio::task::yield_now().await;
    fs::write(folder.path().join("operations/extra.toml"), EXTRA).unwrap();
    let noticed = Clock::System.timeout(Duration::from_secs(10), told.recv()).await;
    assert!(matches!(noticed, Ok(Some(true))), "{noticed:?}");
    watching.abort();
}
