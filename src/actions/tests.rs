//! What is remembered, for how long, and across a restart.

use super::*;

fn action(number: usize) -> ActionId {
    ActionId::parse(&format!("action-{number}")).unwrap()
}

fn device(number: usize) -> DeviceRef {
    DeviceRef::parse(&format!("pc-{number}"))
}

#[test]
fn an_action_stands_for_the_device_it_was_recorded_with() {
    let actions = Actions::new(10);
    actions.record(action(1), device(1));
    assert_eq!(actions.resolve(None, Some(&action(1)))[..], [Target::Device(device(1))]);
    let in_capitals = ActionId::parse("ACTION-1").unwrap();
    assert_eq!(actions.resolve(None, Some(&in_capitals))[..], [Target::Device(device(1))]);
}

#[test]
fn an_action_that_was_never_recorded_is_unknown() {
    let actions = Actions::new(10);
    assert_eq!(actions.resolve(None, Some(&action(1)))[..], [Target::UnknownAction(action(1))]);
}

#[test]
fn a_call_that_names_devices_and_an_action_acts_on_all_of_them() {
    let actions = Actions::new(10);
    actions.record(action(1), device(1));
    let targets = actions.resolve([&device(2), &device(3)], Some(&action(1)));
    assert_eq!(targets[..], [2, 3, 1].map(|number| Target::Device(device(number))));
    assert!(actions.resolve(None, None).is_empty());
}

#[test]
fn the_oldest_action_goes_first_and_no_more_are_kept_than_fit() {
    let actions = Actions::new(3);
    assert!(actions.is_empty());
    for number in 0..5 {
        actions.record(action(number), device(number));
    }
    assert_eq!(actions.len(), 3);
    assert_eq!(actions.resolve(None, Some(&action(1)))[..], [Target::UnknownAction(action(1))]);
    assert_eq!(actions.resolve(None, Some(&action(2)))[..], [Target::Device(device(2))]);
}

#[test]
fn an_action_recorded_twice_is_kept_once_with_its_last_device() {
    let actions = Actions::new(2);
    actions.record(action(1), device(1));
    actions.record(action(1), device(2));
    actions.record(action(2), device(2));
    assert_eq!(actions.len(), 2);
    assert_eq!(actions.resolve(None, Some(&action(1)))[..], [Target::Device(device(2))]);
}

#[test]
fn many_threads_never_hold_more_than_fit_and_lose_nothing_that_is_new() {
    let actions = Actions::new(100);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let actions = &actions;
            scope.spawn(move || {
                for number in 0..1_000 {
                    actions.record(action(thread * 1_000 + number), device(number));
                    assert!(actions.len() <= 100);
                }
            });
        }
    });
    let known = actions.known.read();
    assert_eq!((known.order.len(), known.devices.len()), (100, 100));
    assert!(known.order.iter().all(|action| known.devices.contains_key(action)));
}

fn folder() -> (tempfile::TempDir, StateFolder) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    (folder, state)
}

#[test]
fn what_was_recorded_is_known_to_the_next_process_however_the_device_was_named() {
    let (_folder, state) = folder();
    let devices = [
        "1111111111111111111111111111111111111111",
        "fb9ab6be3965095a09c057be7c90f0a2",
        "7b0c1f2e-0000-0000-0000-000000000001",
        "Straße-\"1\".Example",
    ]
    .map(DeviceRef::parse);
    let actions = Actions::open(10, &state).unwrap();
    for (number, device) in devices.iter().enumerate() {
        actions.record(action(number), device.clone());
    }
    actions.record(action(0), devices[1].clone());
    actions.close();
    let again = Actions::open(10, &state).unwrap();
    for (number, device) in [1, 1, 2, 3].into_iter().enumerate() {
        let known = again.resolve(None, Some(&action(number)));
        assert_eq!(known[..], [Target::Device(devices[device].clone())]);
    }
    let numbers = again.journal().unwrap().1;
    assert_eq!((numbers.written, numbers.dropped, numbers.lost_bytes), (0, 0, 0));
}

#[test]
fn the_newest_of_many_come_back_and_the_file_does_not_grow_without_end() {
    let (folder, state) = folder();
    // However slow the disk: what comes while the file is written anew, at most what one life of the process records,
    // stays in it besides what is needed, and may stand there twice. All of it were 7 MB.
    for life in 0..6 {
        let actions = Actions::open(3_000, &state).unwrap();
        for number in life * 20_000..(life + 1) * 20_000 {
            actions.record(action(number), device(number));
        }
        actions.close();
        let numbers = actions.journal().unwrap().1;
        assert_eq!(numbers.written + numbers.dropped, 20_000);
    }
    let length = std::fs::metadata(folder.path().join("actions.journal")).unwrap().len();
    assert!(length < 3 << 20, "{length}");
    // Those that found no room, if any, are made up for at the next record.
    let again = Actions::open(3_000, &state).unwrap();
    again.record(action(120_000), device(120_000));
    assert_eq!(again.len(), 3_000);
    let last = again.resolve(None, Some(&action(120_000)));
    assert_eq!(last[..], [Target::Device(device(120_000))]);
}

#[test]
fn a_step_through_the_memory_leaves_nothing_out_when_the_oldest_go_meanwhile() {
    let mut known = Known::new(2_500);
    (0..2_500).for_each(|number| known.record(action(number), device(number)));
    let (first, next) = known.step(0);
    assert_eq!((first.len(), next), (1_000, 1_000));
    (2_500..4_000).for_each(|number| known.record(action(number), device(number)));
    let (second, next) = known.step(next);
    assert_eq!((second[0].0.clone(), second.len(), next), (action(1_500), 1_000, 2_500));
    let (third, next) = known.step(next);
    assert_eq!((third.last().unwrap().0.clone(), next), (action(3_499), 3_500));
}

#[test]
fn a_record_of_another_kind_is_left_out_and_the_others_are_read() {
    let (_folder, state) = folder();
    let journal = state.replay("actions", |_| ()).unwrap();
    let journal = journal.start(Durability::Process, QUEUE, Box::new(|_| ())).unwrap();
    for record in [&b"{}"[..], b"not JSON", &Record::write(&action(1), &device(1))] {
        journal.append(record).unwrap();
    }
    journal.close();
    let actions = Actions::open(10, &state).unwrap();
    assert_eq!(actions.len(), 1);
    assert_eq!(actions.resolve(None, Some(&action(1)))[..], [Target::Device(device(1))]);
}
