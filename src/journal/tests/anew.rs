//! A file that is written anew, on a disk that takes its time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::journal::queue::Queue;
use crate::journal::writer::Writer;

/// Writes a file anew while a record comes during each of the first two syncs, for which somebody waits until it survives
/// so much. How often a file was synced.
fn syncs_of_a_rewriting_during_which_records_come(awaited: Durability) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let replayed = state.replay("test", |_| ()).unwrap();
    let queue = Arc::new(Queue::new(ROOM, Durability::Process));
    let mut writer = Writer::new(queue.clone(), replayed.file, Box::new(|put| put(b"needed")));
    let (path, syncs) = (file(&folder), AtomicUsize::new(0));
    writer
        .try_rewrite(|_| {
            let number = syncs.fetch_add(1, Ordering::Relaxed);
            if number >= 2 {
                return Ok(());
            }
            let record = format!("during sync {number}");
            let position = queue.push(record.as_bytes()).unwrap();
            let _ = queue.written(position, awaited).now_or_never();
            let has_it = || {
                let bytes = std::fs::read(&path).unwrap();
                bytes.windows(record.len()).any(|part| part == record.as_bytes())
            };
            // The disk takes as long as it likes: the record is in the old file meanwhile.
            let (_say, hear) = mpsc::channel::<()>();
            let in_time =
                (0..1_000).any(|_| has_it() || hear.recv_timeout(Duration::from_millis(10)).is_ok());
            assert!(in_time, "what came during sync {number} waits for the disk");
            Ok(())
        })
        .unwrap();
    drop((writer, state));
    let expected = [b"needed".as_slice(), b"during sync 0", b"during sync 1"];
    assert_eq!(read_back(folder.path()).0, expected.map(<[u8]>::to_vec));
    syncs.into_inner()
}

#[test]
fn records_do_not_wait_for_a_new_file_to_reach_the_disk_and_are_in_it() {
    assert_eq!(syncs_of_a_rewriting_during_which_records_come(Durability::Process), 2);
}

#[test]
fn a_record_that_survives_a_power_cut_does_so_in_the_new_file_too() {
    assert_eq!(syncs_of_a_rewriting_during_which_records_come(Durability::Power), 3);
}
