use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{any, proptest};
use proptest::{collection, prop_assert_eq};

use super::*;
use crate::limit::QuotaSet;
use crate::limit::fixture::{clock, quotas};
use crate::time::ManualClock;

const WINDOW: Duration = Duration::from_secs(60);

/// Failed logins under `windows`, with so many addresses counted each by itself.
struct World {
    quotas: QuotaSet,
    logins: FailedLogins,
    clock: Clock,
    hand: Arc<ManualClock>,
}

impl World {
    fn new(windows: &str, max_addresses: u32) -> Self {
        let (clock, hand) = clock();
        Self { quotas: rules(windows, max_addresses), logins: FailedLogins::new(), clock, hand }
    }

    fn check(&self, address: &str) -> Result<(), Duration> {
        let attempt = self.quotas.attempt(Some(address.parse().unwrap()));
        self.logins.check(&attempt, &self.clock).map_err(|error| error.retry_after.duration())
    }

    fn fail(&self, address: &str) {
        self.logins.charge(&self.quotas.attempt(Some(address.parse().unwrap())), &self.clock);
    }

    fn fail_times(&self, address: &str, times: usize) {
        (0..times).for_each(|_| self.fail(address));
    }
}

fn rules(windows: &str, max_addresses: u32) -> QuotaSet {
    quotas(&format!(
        "max_addresses = {max_addresses}\n[[limit]]\nname = \"failed\"\nper = [\"address\"]\nwindows = [{windows}]\n"
    ))
}

#[test]
fn an_address_that_failed_n_times_in_a_window_is_told_when_the_next_try_counts_and_no_sooner() {
    let world = World::new("\"3 per minute\"", 10);
    for second in 0..3 {
        assert_eq!(world.check("192.0.2.1"), Ok(()), "{second}");
        world.fail("192.0.2.1");
        world.hand.advance(Duration::from_secs(1));
    }
    // The first failure leaves the window 60 s after it was made; 3 s have passed.
    assert_eq!(world.check("192.0.2.1"), Err(Duration::from_secs(57)));
    world.hand.advance(Duration::from_secs(57) - Duration::from_nanos(1));
    assert!(world.check("192.0.2.1").is_err());
    world.hand.advance(Duration::from_nanos(1));
    assert_eq!(world.check("192.0.2.1"), Ok(()));
    world.fail("192.0.2.1");
    assert_eq!(world.check("192.0.2.1"), Err(Duration::from_secs(1)));
}

#[test]
fn to_be_turned_away_is_no_failure_and_another_address_does_not_notice() {
    let world = World::new("\"1 per minute\"", 10);
    world.fail("192.0.2.1");
    for _ in 0..100 {
        assert_eq!(world.check("192.0.2.1"), Err(WINDOW));
    }
    assert_eq!(world.check("192.0.2.2"), Ok(()));
    world.hand.advance(WINDOW);
    assert_eq!(world.check("192.0.2.1"), Ok(()));
}

#[test]
fn the_longest_wait_of_several_windows_is_told() {
    let world = World::new("\"2 per minute\", \"3 per hour\"", 10);
    world.fail_times("192.0.2.1", 2);
    assert_eq!(world.check("192.0.2.1"), Err(WINDOW));
    world.hand.advance(WINDOW);
    world.fail("192.0.2.1");
    assert_eq!(world.check("192.0.2.1"), Err(Duration::from_secs(3_540)));
}

#[test]
fn an_ipv6_network_of_64_bits_is_one_caller_and_an_ipv4_address_is_one_in_either_form() {
    let world = World::new("\"1 per minute\"", 10);
    world.fail("2001:db8:0:1::1");
    assert!(world.check("2001:db8:0:1:ffff:ffff:ffff:ffff").is_err());
    assert_eq!(world.check("2001:db8:0:2::1"), Ok(()));
    world.fail("::ffff:192.0.2.1");
    assert!(world.check("192.0.2.1").is_err());
    // All of IPv4 in IPv6 form lies in one network of 64 bits.
    assert_eq!(world.check("::ffff:192.0.2.2"), Ok(()));
    assert_eq!(world.logins.addresses(), 2);
}

#[test]
fn newcomers_share_one_key_while_the_map_is_full_and_those_in_it_keep_their_own() {
    let world = World::new("\"2 per minute\"", 2);
    world.fail("192.0.2.1");
    world.fail("192.0.2.2");
    assert_eq!(world.check("192.0.2.3"), Ok(()));
    world.fail("192.0.2.3");
    world.fail("192.0.2.4");
    assert_eq!(world.logins.addresses(), 2);
    assert!(world.check("192.0.2.5").is_err(), "it shares the two failures of two others");
    assert_eq!(world.check("192.0.2.1"), Ok(()));
    world.fail("192.0.2.1");
    assert!(world.check("192.0.2.1").is_err());
    // Once the map has room again, a newcomer is counted by itself.
    world.hand.advance(WINDOW);
    world.fail("192.0.2.2");
    world.logins.sweep(&world.clock);
    assert_eq!(world.logins.addresses(), 1);
    world.fail_times("192.0.2.6", 2);
    assert!(world.check("192.0.2.6").is_err() && world.logins.addresses() == 2);
}

#[test]
fn whoever_has_no_address_shares_the_key_of_the_others() {
    let world = World::new("\"1 per minute\"", 10);
    let nowhere = world.quotas.attempt(None);
    assert!(world.logins.check(&nowhere, &world.clock).is_ok());
    world.logins.charge(&nowhere, &world.clock);
    assert!(world.logins.check(&nowhere, &world.clock).is_err());
    assert_eq!((world.check("192.0.2.1"), world.logins.addresses()), (Ok(()), 0));
}

#[test]
fn without_the_limit_nobody_is_counted() {
    let world = World { quotas: quotas(""), ..World::new("\"1 per minute\"", 10) };
    world.fail_times("192.0.2.1", 5);
    assert_eq!((world.check("192.0.2.1"), world.logins.addresses()), (Ok(()), 0));
}

#[test]
fn what_was_counted_is_counted_under_other_numbers_too() {
    let mut world = World::new("\"5 per minute\"", 10);
    world.fail_times("192.0.2.1", 3);
    world.quotas = rules("\"2 per minute\"", 10);
    assert_eq!(world.check("192.0.2.1"), Err(WINDOW));
    world.quotas = rules("\"4 per minute\"", 10);
    assert_eq!(world.check("192.0.2.1"), Ok(()));
}

#[test]
fn addresses_that_come_at_once_are_never_more_than_may_be() {
    let world = World::new("\"100 per minute\"", 50);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let world = &world;
            scope.spawn(move || (0..=255).for_each(|host: u8| world.fail(&format!("192.0.{thread}.{host}"))));
        }
    });
    assert_eq!((world.logins.addresses(), world.logins.by_origin.len()), (50, 50));
}

proptest! {
    /// Against a list of times: an address is turned away iff one of its windows holds as many failures as it may.
    #[test]
    fn it_decides_as_a_list_of_all_failures_would(
        steps in collection::vec((0_u64..8_000, 0..3_usize, any::<bool>()), 1..200)
    ) {
        let world = World::new("\"3 per 5s\", \"9 per 40s\"", 10);
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
        let (mut now, mut failures) = (0, [const { Vec::<u64>::new() }; 3]);
        for (millis, address, fails) in steps {
            now += millis;
            world.hand.advance(Duration::from_millis(millis));
            // The limiter's own verdict does not stop it: verifications that have begun go on.
            if fails {
                failures[address].push(now);
                world.fail(addresses[address]);
            }
            let within = |window| failures[address].iter().filter(|time| **time + window > now).count();
            let full = within(5_000) >= 3 || within(40_000) >= 9;
            prop_assert_eq!(world.check(addresses[address]).is_err(), full, "at {}", now);
        }
    }
}

#[test]
fn an_address_takes_no_more_bytes_than_check_counts_for_it() {
    const ADDRESSES: u32 = 100_000;
    let world = World::new("\"60 per minute\"", ADDRESSES);
    let counted = allocation_counter::measure(|| {
        for number in 0..ADDRESSES {
            let attempt = world.quotas.attempt(Some(std::net::Ipv4Addr::from_bits(number).into()));
            (0..60).for_each(|_| world.logins.charge(&attempt, &world.clock));
        }
    });
    assert_eq!(world.logins.addresses(), ADDRESSES as usize);
    let each = counted.bytes_current / i64::from(ADDRESSES);
    let most = i64::try_from(ADDRESS_BYTES + 60 * FAILURE_BYTES).unwrap();
    assert!(each <= most && each > most / 2, "{each} bytes, counted as {most}");
}
