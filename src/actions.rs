//! Which device each forwarded action belongs to.
//!
//! `getPackageUri` and `cancel` name an action, not a device. The proxy records the action of each 201 answer, so that
//! such a call is held to the same device groups as the one that started it.

use std::collections::{HashMap, VecDeque};

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::id::{ActionId, DeviceRef};
use crate::principal::Target;

/// The actions that were started through this process, the newest of them. Shared by all requests.
///
/// One lock guards it: a record holds it for a few hundred nanoseconds, at most as often as actions are started (25
/// a minute for one application, by the API's documented limits), and look-ups share it. What can go wrong: an action
/// that is asked for before its answer was recorded, or after 100,000 newer ones, has no known device, and the policy
/// (`unknown_action`) decides.
#[derive(Debug)]
pub struct Actions {
    capacity: usize,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    devices: HashMap<ActionId, DeviceRef, foldhash::fast::RandomState>,
    /// The oldest first. INVARIANT: the keys of `devices`, each once.
    order: VecDeque<ActionId>,
}

impl Actions {
    /// The actions of 66 hours at the documented 1500 an hour for one application; about 25 MB when full.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// None yet, and never more than `capacity`: then the oldest goes first.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, known: RwLock::default() }
    }

    /// Notes whose an action is. The API's word is the last one: a second record of the same action replaces the first.
    pub fn record(&self, action: ActionId, device: DeviceRef) {
        let mut known = self.known.write();
        if known.devices.insert(action.clone(), device).is_none() {
            known.order.push_back(action);
        }
        while known.order.len() > self.capacity
            && let Some(oldest) = known.order.pop_front()
        {
            known.devices.remove(&oldest);
        }
    }

    /// What a call acts on, by the devices and the action that it names.
    pub fn resolve<'d>(
        &self,
        devices: impl IntoIterator<Item = &'d DeviceRef>,
        action: Option<&ActionId>,
    ) -> SmallVec<[Target; 1]> {
        let behind = action.map(|action| match self.known.read().devices.get(action) {
            Some(device) => Target::Device(device.clone()),
            None => Target::UnknownAction(action.clone()),
        });
        devices.into_iter().cloned().map(Target::Device).chain(behind).collect()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.read().order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
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
}
