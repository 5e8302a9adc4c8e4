//! What a device takes in memory, and that every name finds it, however many share it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::policy::inventory::Inventory;
use crate::source::{PolicyFiles, Problems, SourceFile};

fn groups() -> DeviceGroups {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new(DeviceGroups::FILE, ""));
    DeviceGroups::compile(&files, &mut Problems::default())
}

fn inventory(csv: &str) -> Inventory {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("devices.csv", csv));
    let mut problems = Problems::default();
    let inventory = Inventory::compile(&files, &groups(), None, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    inventory
}

/// Of 100,000 devices as a large tenant has them, with three names each; what the allocator gave and did not get back.
#[test]
fn a_device_takes_at_most_128_bytes_with_all_its_names_indexed() {
    const DEVICES: u32 = 100_000;
    let mut csv = "Device ID,Device Name,AAD Device ID,OS Platform,Tags\n".to_owned();
    for number in 0..DEVICES {
        let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (os, tag) = (number % 7, number % 50);
        writeln!(
            csv,
            "{mixed:016x}{mixed:016x}{number:08x},ws-{number:06}.site-{}.contoso.example,{:032x},Windows{os},tag-{tag};all",
            number % 40,
            u128::from(mixed)
        )
        .unwrap();
    }
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("devices.csv", csv));
    let groups = groups();
    let mut kept = None;
    let measured = allocation_counter::measure(|| {
        kept = Some(Inventory::compile(&files, &groups, None, &mut Problems::default()));
    });
    assert_eq!(kept.unwrap().len(), DEVICES as usize);
    let each = measured.bytes_current as f64 / f64::from(DEVICES);
    assert!((64.0..=128.0).contains(&each), "{each:.1} bytes a device");
}

#[test]
fn keys_whose_hashes_are_alike_do_not_hide_one_another() {
    for hash in [0, 7, u64::MAX] {
        let mut index = Index::for_keys(5);
        for place in 0..5 {
            assert_eq!(index.put(hash, place, |other| (other == place).into()), None);
        }
        for place in 0..5 {
            assert_eq!(index.find(hash, |other| (other == place).into()), Some(place));
        }
        assert_eq!(index.find(hash, |_| Verdict::Other), None);
        assert_eq!(index.put(hash, 9, |other| (other == 3).into()), Some(3));
        assert_eq!(index.find(hash, |other| (other == 9).into()), Some(9));
        assert_eq!(index.find(hash ^ 1, |_| Verdict::Same), None);
    }
    assert_eq!(Index::default().find(0, |_| Verdict::Same), None);
    let mut full = Index::for_keys(0);
    assert_eq!([full.put(1, 1, |_| Verdict::Other), full.put(1, 2, |_| Verdict::Other)], [None, None]);
    assert_eq!(full.find(1, |_| Verdict::Other), None);
}

proptest! {
    #[test]
    fn every_name_finds_the_devices_that_a_walk_through_all_would_find(
        devices in proptest::collection::vec((0..4_u8, 0..7_usize, 0..4_usize), 0..40)
    ) {
        let names = ["", "pc", "PC.a.example", "pc.b.example", "srv.", "Srv.a.example.", "7b0c1f2e-0000-0000-0000-000000000001"];
        let domains = ["", "a.example", "B.example", "c.example"];
        let mut csv = "Device ID,Device Name,Domain,AAD Device ID\n".to_owned();
        let mut refs: Vec<BTreeSet<String>> = Vec::new();
        for (number, (entra, name, domain)) in devices.iter().enumerate() {
            let (id, name, domain) = (format!("{number:040x}"), names[*name], domains[*domain]);
            let entra = if *entra == 0 { String::new() } else { format!("{entra:032x}") };
            writeln!(csv, "{id},{name},{domain},{entra}").unwrap();
            let mut all = BTreeSet::from([DeviceRef::parse(&id)]
                .map(|named| format!("{named:?}")));
            let mut add = |text: &str| { all.insert(format!("{:?}", DeviceRef::parse(text))); };
            if !entra.is_empty() {
                let plain = entra.parse::<EntraDeviceId>().unwrap().to_string();
                [&plain, &format!("{{{plain}}}"), &entra].into_iter().for_each(|spelt| add(spelt));
            }
            let name = name.strip_suffix('.').unwrap_or(name);
            if !name.is_empty() {
                add(name);
                match name.split_once('.') {
                    Some((label, _)) => add(label),
                    None if !domain.is_empty() => add(&format!("{name}.{domain}")),
                    None => {}
                }
            }
            refs.push(all);
        }
        let inventory = inventory(&csv);
        for named in refs.iter().flatten() {
            let expected: Vec<String> = (0..refs.len())
                .filter(|place| refs[*place].contains(named))
                .map(|place| format!("{place:040x}"))
                .collect();
            let text = named.trim_start_matches(|c| c != '(').trim_matches(['(', ')', '"']);
            let found: Vec<String> =
                inventory.find(&DeviceRef::parse(text)).map(|device| device.id.to_string()).collect();
            prop_assert_eq!(found, expected, "{}", named);
        }
    }
}
