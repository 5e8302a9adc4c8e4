//! What keys cost: allocations counted, in bytes.

use allocation_counter::measure;

use super::*;
use crate::id::OperationId;
use crate::principal::Scope;

/// Makes `calls` calls of each of `keys` applications, 2 s apart by the clock.
fn store_of(keys: u32, calls: u32) -> (Store, i64) {
    let (set, (clock, hand)) = (quotas(""), clock());
    let (operation, scope, store) =
        ("collect".parse::<OperationId>().unwrap(), Scope::default(), Store::default());
    let counted = measure(|| {
        for _ in 0..calls {
            for number in 0..keys {
                let subject = application(1, number.into());
                call(&store, &set.charges(&subject, &operation, &scope), &clock).unwrap();
            }
            hand.advance(Duration::from_secs(2));
        }
    });
    (store, counted.bytes_current)
}

/// As a million would: the table and the round of the sweep are as full with a quarter of them.
#[test]
fn a_million_idle_keys_take_128_bytes_each_with_all_slack_of_the_table() {
    const KEYS: u32 = 250_000;
    let (store, bytes) = store_of(KEYS, 1);
    let each = bytes as f64 / f64::from(KEYS);
    println!("{each:.1} bytes a key");
    assert!(store.keys() == KEYS as usize && each <= 128.0, "{each}");
}

#[test]
fn a_full_key_of_100_a_minute_and_1500_an_hour_takes_6200_bytes() {
    const KEYS: u32 = 256;
    let (store, bytes) = store_of(KEYS, 1_500);
    let each = bytes as f64 / f64::from(KEYS);
    println!("{each:.1} bytes a key");
    assert!(store.keys() == KEYS as usize && each <= 6_200.0, "{each}");
}
