//! What comes back of what was handed in: after a restart, a cut, damage, a rewriting, a full queue.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod anew;
mod passing;

const ROOM: usize = 1 << 20;

fn nothing_lives() -> Live {
    Box::new(|_| {})
}

/// Every record of the journal in the folder, and how many bytes were given up.
fn read_back(folder: &Path) -> (Vec<Vec<u8>>, u64) {
    let mut records = Vec::new();
    let folder = StateFolder::open(folder).unwrap();
    let replayed = folder.replay("test", |record| records.push(record.to_owned())).unwrap();
    assert_eq!(replayed.records, records.len() as u64);
    (records, replayed.lost_bytes)
}

/// A folder whose journal has these records.
fn written(records: &[&[u8]]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let journal = journal.start(Durability::Process, ROOM, nothing_lives()).unwrap();
    for record in records {
        journal.append(record).unwrap();
    }
    journal.close();
    assert_eq!(journal.numbers().written, records.len() as u64);
    drop(state);
    folder
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("test.journal")
}

#[test]
fn records_come_back_in_their_order_whole_and_for_the_owner_alone() {
    let long = vec![7; Journal::MAX_RECORD];
    let folder = written(&[b"one", b"two", &long, b"\0"]);
    assert_eq!(read_back(folder.path()), (vec![b"one".into(), b"two".into(), long, b"\0".into()], 0));
    for path in [file(&folder), folder.path().join("lock")] {
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    }
    let made = folder.path().join("a/b");
    drop(StateFolder::open(&made).unwrap());
    assert_eq!(std::fs::metadata(made).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_file_cut_off_anywhere_loses_the_records_behind_the_cut_and_no_other() {
    let records: [&[u8]; 3] = [b"first", b"second", b"third"];
    let folder = written(&records);
    let whole = std::fs::read(file(&folder)).unwrap();
    let ends = [19, 19 + 13, 19 + 13 + 14, 19 + 13 + 14 + 13];
    assert_eq!(whole.len(), ends[3]);
    for cut in 0..whole.len() {
        std::fs::write(file(&folder), &whole[..cut]).unwrap();
        let kept = ends[1..].iter().filter(|end| **end <= cut).count();
        let lost = if cut < ends[0] { 0 } else { cut - ends[kept] };
        let expected: Vec<Vec<u8>> = records[..kept].iter().map(|record| record.to_vec()).collect();
        assert_eq!(read_back(folder.path()), (expected, lost as u64), "cut at {cut}");
        // What was given up is gone: the next start finds a whole file.
        assert_eq!(read_back(folder.path()).1, 0, "cut at {cut}");
    }
}

#[test]
fn a_damaged_byte_loses_its_record_and_those_behind_it_and_is_never_read_as_another() {
    let records: [&[u8]; 3] = [b"first", b"second", b"third"];
    let folder = written(&records);
    let whole = std::fs::read(file(&folder)).unwrap();
    let ends = [19, 32, 46, 59];
    for at in 19..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        std::fs::write(file(&folder), &damaged).unwrap();
        let kept = ends[1..].iter().filter(|end| **end <= at).count();
        let (found, lost) = read_back(folder.path());
        assert_eq!((found.len(), lost as usize), (kept, whole.len() - ends[kept]), "damaged at {at}");
    }
}

#[test]
fn zeros_at_the_end_as_a_power_cut_leaves_them_are_no_records() {
    let folder = written(&[b"kept"]);
    let mut zeros = std::fs::read(file(&folder)).unwrap();
    zeros.resize(zeros.len() + 4_096, 0);
    std::fs::write(file(&folder), zeros).unwrap();
    assert_eq!(read_back(folder.path()), (vec![b"kept".to_vec()], 4_096));
}

#[test]
fn records_after_a_lost_end_stand_behind_those_before_it() {
    let folder = written(&[b"one", b"two"]);
    let whole = std::fs::read(file(&folder)).unwrap();
    std::fs::write(file(&folder), &whole[..whole.len() - 1]).unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let journal = journal.start(Durability::Power, ROOM, nothing_lives()).unwrap();
    journal.append(b"three").unwrap();
    journal.close();
    assert_eq!(journal.numbers(), JournalNumbers { written: 1, lost_bytes: 10, ..JournalNumbers::default() });
    drop(state);
    assert_eq!(read_back(folder.path()), (vec![b"one".to_vec(), b"three".to_vec()], 0));
}

#[test]
fn a_file_of_another_kind_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["{}", "tollgate journal 2\nand more", "an address book"] {
        std::fs::write(file(&folder), text).unwrap();
        let error = StateFolder::open(folder.path()).unwrap().replay("test", |_| ()).unwrap_err();
        assert!(error.to_string().contains("is not a journal of this version"), "{error}");
        assert_eq!(std::fs::read_to_string(file(&folder)).unwrap(), text);
    }
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let owner = StateFolder::open(folder.path()).unwrap();
    let error = StateFolder::open(folder.path()).unwrap_err();
    assert!(matches!(error, JournalError::InUse(_)), "{error}");
    drop(owner);
    StateFolder::open(folder.path()).unwrap();
}

#[test]
fn a_file_that_has_grown_is_written_anew_from_what_its_owner_still_needs() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let needed = Arc::new(Mutex::new(Vec::new()));
    let memory = needed.clone();
    let live: Live = Box::new(move |put| memory.lock().iter().for_each(|record: &Vec<u8>| put(record)));
    let journal = journal.start(Durability::Process, 64 << 20, live).unwrap();
    for number in 0..200_u32 {
        let record = [&number.to_le_bytes()[..], &[1; 20_000]].concat();
        *needed.lock() = vec![record.clone()];
        journal.append(&record).unwrap();
    }
    journal.close();
    drop(state);
    let length = std::fs::metadata(file(&folder)).unwrap().len();
    assert!(length < 3 << 20, "4 MB were written, and {length} bytes are kept");
    assert_eq!(read_back(folder.path()).0.last(), needed.lock().first());
    assert!(!folder.path().join("test.journal.new").exists());
}

#[test]
fn records_that_come_while_a_file_is_written_anew_do_not_wait_for_it_and_are_in_both() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let itself = Arc::new(std::sync::OnceLock::<Arc<Journal>>::new());
    let (within, path) = (itself.clone(), file(&folder));
    let live: Live = Box::new(move |put| {
        let journal = within.get().unwrap();
        journal.append(b"meanwhile").unwrap();
        let has_it = || std::fs::read(&path).unwrap().windows(9).any(|part| part == b"meanwhile");
        // It is in the old file before the new one is done.
        for step in 0.. {
            assert!(step < 100, "what came meanwhile waits for the new file");
            (0..2_000).for_each(|_| put(b"needed"));
            if has_it() {
                return;
            }
        }
    });
    let journal = Arc::new(journal.start(Durability::Process, 1 << 20, live).unwrap());
    itself.set(journal.clone()).unwrap();
    // One that finds no room has the file written anew.
    assert_eq!(journal.append(&[0; Journal::MAX_RECORD + 1]), Err(Full));
    journal.append(b"first").unwrap();
    while !std::fs::read(file(&folder)).unwrap().windows(6).any(|part| part == b"needed") {
        std::thread::yield_now();
    }
    journal.close();
    drop(state);
    let (records, lost) = read_back(folder.path());
    assert_eq!((records.last().map(Vec::as_slice), lost), (Some(&b"meanwhile"[..]), 0));
    assert!(records.iter().filter(|record| *record == b"needed").count() >= 2_000);
}

#[test]
fn what_found_no_room_is_counted_and_made_up_for_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let live: Live = Box::new(|put| [b"too long".as_slice(), b"short"].into_iter().for_each(put));
    let journal = journal.start(Durability::Process, 5, live).unwrap();
    assert_eq!(journal.append(b"too long"), Err(Full));
    assert_eq!(journal.append(b""), Err(Full));
    journal.append(b"short").unwrap();
    journal.close();
    assert_eq!(journal.append(b"late"), Err(Full));
    assert_eq!((journal.numbers().written, journal.numbers().dropped), (1, 3));
    drop(state);
    assert_eq!(read_back(folder.path()).0, [b"too long".to_vec(), b"short".to_vec()]);
}

#[test]
fn a_disk_that_takes_nothing_costs_what_is_queued_at_the_end_and_is_counted() {
    // Appends to it fail: no space left.
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let mut replayed = state.replay("test", |_| ()).unwrap();
    replayed.file.replace(full);
    let journal = replayed.start(Durability::Process, ROOM, nothing_lives()).unwrap();
    journal.append(b"one").unwrap();
    journal.close();
    let numbers = journal.numbers();
    assert_eq!((numbers.written, numbers.dropped), (0, 1));
    assert!(numbers.failures >= 2, "{numbers:?}");
}

#[tokio::test]
async fn who_waits_for_a_record_is_told_when_it_is_written_and_need_not_wait_for_others_to_gather() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let journal = journal.start(Durability::Process, ROOM, nothing_lives()).unwrap();
    for durability in [Durability::Process, Durability::Power, Durability::Process] {
        let position = journal.append(b"one").unwrap();
        assert_eq!(journal.end(), Ok(position));
        let before = std::fs::metadata(file(&folder)).unwrap().len();
        journal.written(position, durability).await.unwrap();
        assert_eq!(std::fs::metadata(file(&folder)).unwrap().len(), before + 11, "{durability:?}");
        // What is written already needs no further record to be synced.
        journal.written(position, Durability::Power).await.unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_a_record_that_the_disk_does_not_take_is_told() {
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let mut replayed = state.replay("test", |_| ()).unwrap();
    replayed.file.replace(full);
    let journal = replayed.start(Durability::Process, 8, nothing_lives()).unwrap();
    let position = journal.append(b"one").unwrap();
    assert_eq!(journal.written(position, Durability::Process).await, Err(Unwritten));
    while journal.append(b"more").is_ok() {}
    assert_eq!(journal.end(), Err(Full), "a record is missing before it");
}

#[test]
fn a_new_file_that_cannot_be_finished_is_taken_away_and_leaves_the_disk_to_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    // A folder of that name: no file can take its place.
    std::fs::remove_file(file(&folder)).unwrap();
    std::fs::create_dir(file(&folder)).unwrap();
    let journal = journal.start(Durability::Process, ROOM, nothing_lives()).unwrap();
    // One that finds no room has the file written anew.
    assert_eq!(journal.append(&[0; Journal::MAX_RECORD + 1]), Err(Full));
    journal.append(b"one").unwrap();
    journal.close();
    assert_eq!((journal.numbers().written, journal.numbers().failures), (1, 1));
    assert!(!folder.path().join("test.journal.new").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_anew_is_tried_again_after_a_while_and_not_at_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let obstacle = folder.path().join("test.journal.new");
    std::fs::create_dir(&obstacle).unwrap();
    let live: Live = Box::new(|put| put(b"needed"));
    let journal = journal.start(Durability::Process, ROOM, live).unwrap();
    assert_eq!(journal.append(&[0; Journal::MAX_RECORD + 1]), Err(Full));
    let write = async |batches| {
        for _ in 0..batches {
            let position = journal.append(b"one").unwrap();
            journal.written(position, Durability::Process).await.unwrap();
        }
    };
    write(40).await;
    assert_eq!(journal.numbers().failures, 1);
    std::fs::remove_dir(obstacle).unwrap();
    write(20).await;
    journal.close();
    assert_eq!(journal.numbers().failures, 1);
    drop(state);
    assert_eq!(read_back(folder.path()).0.first().map(Vec::as_slice), Some(&b"needed"[..]));
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_writer_that_a_fault_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let journal = state.replay("test", |_| ()).unwrap();
    let live: Live = Box::new(|_| panic!("a fault"));
    let journal = journal.start(Durability::Process, ROOM, live).unwrap();
    assert_eq!(journal.append(&[0; Journal::MAX_RECORD + 1]), Err(Full));
    while let Ok(position) = journal.append(b"one") {
        let _ = journal.written(position, Durability::Process).await;
    }
    assert_eq!(journal.end(), Err(Full));
}

proptest! {
    #[test]
    fn whatever_a_file_says_only_whole_records_come_back_and_nothing_panics(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..20),
        junk in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let folder = written(&slices);
        let mut bytes = std::fs::read(file(&folder)).unwrap();
        bytes.extend_from_slice(&junk);
        std::fs::write(file(&folder), &bytes).unwrap();
        let (found, lost) = read_back(folder.path());
        prop_assert_eq!(&found[..], &records[..]);
        prop_assert_eq!(lost, junk.len() as u64);
    }
}
