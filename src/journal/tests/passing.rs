//! A journal that passes to another process, or nearly does.

use super::*;

#[tokio::test]
async fn a_suspended_journal_has_written_all_and_leaves_its_file_alone_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let live: Live = Box::new(|put| [b"one".as_slice(), b"two"].into_iter().for_each(put));
    let journal = journal.start(Durability::Process, ROOM, live).unwrap();
    let position = journal.append(b"one").unwrap();
    journal.suspend().unwrap();
    let bytes = || std::fs::read(file(&folder)).unwrap();
    let before = bytes();
    assert!(before.ends_with(b"one"));
    assert_eq!(journal.append(b"two"), Err(Full));
    assert_eq!(journal.suspend(), Err(Unwritten), "once is enough");
    // A sync is no change, and wakes the writer.
    journal.written(position, Durability::Power).await.unwrap();
    assert_eq!(bytes(), before);
    journal.resume();
    let position = journal.append(b"three").unwrap();
    journal.written(position, Durability::Process).await.unwrap();
    journal.close();
    drop(state);
    // What woke the writer may have come to its end only now, so that the last one came while the file was written anew.
    let (records, _) = read_back(folder.path());
    assert_eq!(records[..2], [b"one".to_vec(), b"two".to_vec()], "made up for from memory");
}

#[test]
fn a_suspended_journal_that_is_closed_writes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let live: Live = Box::new(|put| put(b"anew"));
    let journal = journal.start(Durability::Process, ROOM, live).unwrap();
    journal.append(b"one").unwrap();
    journal.suspend().unwrap();
    assert_eq!(journal.append(b"two"), Err(Full));
    let given = StateFolder::received(folder.path(), state.lock().try_clone_to_owned().unwrap()).unwrap();
    let other =
        given.replay("test", |_| ()).unwrap().start(Durability::Process, ROOM, nothing_lives()).unwrap();
    other.append(b"theirs").unwrap();
    journal.close();
    drop(state);
    assert!(matches!(StateFolder::open(folder.path()), Err(JournalError::InUse(_))), "it is the other's");
    other.append(b"and this").unwrap();
    other.close();
    drop((other, given));
    assert_eq!(read_back(folder.path()).0, [b"one".as_slice(), b"theirs", b"and this"].map(<[u8]>::to_vec));
}

#[test]
fn a_lock_of_another_folder_is_not_taken_for_this_ones() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, _other) = (StateFolder::open(one.path()).unwrap(), StateFolder::open(other.path()).unwrap());
    let lock = || one.lock().try_clone_to_owned().unwrap();
    let error = StateFolder::received(other.path(), lock()).unwrap_err();
    assert!(error.to_string().contains("is not the one that the running process has"), "{error}");
    StateFolder::received(Path::new("/no/folder"), lock()).unwrap_err();
}

#[test]
fn what_is_written_at_once_is_read_back_and_stands_in_the_place_of_what_was_there() {
    let folder = written(&[b"before"]);
    let state = StateFolder::open(folder.path()).unwrap();
    state.write("test", |put| [b"one".as_slice(), b"two"].into_iter().for_each(put)).unwrap();
    drop(state);
    assert_eq!(read_back(folder.path()), (vec![b"one".to_vec(), b"two".to_vec()], 0));
    assert!(!folder.path().join("test.journal.new").exists());
}

#[test]
fn an_heir_gets_what_the_journal_would_have_got_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let memory: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let all = memory.clone();
    let live: Live = Box::new(move |put| all.lock().iter().for_each(|record| put(record)));
    let journal = state.replay("test", |_| ()).unwrap().start(Durability::Process, ROOM, live).unwrap();
    let outlet = Outlet::new(journal);
    let put = |record: &[u8]| {
        let mut memory = memory.lock();
        memory.push(record.to_owned());
        outlet.put("test", record).unwrap();
    };
    put(b"one");
    let (to, heard) = std::sync::mpsc::channel();
    outlet.pass_to(Heir(to)).unwrap();
    put(b"two");
    assert_eq!(heard.try_recv().unwrap(), Bequest { name: "test", record: b"two".to_vec() });
    outlet.take_back();
    assert!(heard.recv().is_err(), "nobody tells it any more");
    put(b"three");
    outlet.close();
    drop(state);
    let (records, _) = read_back(folder.path());
    assert_eq!(records, [b"one".as_slice(), b"two", b"three"].map(<[u8]>::to_vec));
}
