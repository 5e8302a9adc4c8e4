//! The inventory at 1,000, 100,000 and 1,000,000 devices and 10,000 groups: a look-up by each kind of name and the decision after it, beside a
//! bare `hashbrown` look-up of the same keys; and, once for each size, how long a set takes to read and compile.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion};
use http::Method;
use tollgate::id::{ApplicationId, DeviceRef, Permission, TenantId};
use tollgate::policy::PolicySet;
use tollgate::principal::{Principal, PrincipalKind, Subject, Target};
use tollgate::reload::PolicySource;
use tollgate::sandbox::shipped;
use tollgate::source::Problems;
use tollgate::time::{Clock, Wall};

const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];

/// Rules of all four properties and all four operators.
const GROUPS: u32 = 10_000;

/// An application that is confined, so that each device's group is asked for, and of which every device is.
const APPLICATION: u128 = 0x3_0000_0000_0001;

/// What a machine has beside what matters here: the API gives some thirty members.
const REST: &str = r#""firstSeen":"2025-01-01T00:00:00Z","lastSeen":"2026-11-24T09:46:40Z","osVersion":null,"osProcessor":"x64","osArchitecture":"64-bit","version":"24H2","osBuild":26100,"lastIpAddress":"10.0.0.1","lastExternalIpAddress":"192.0.2.1","healthStatus":"Active","onboardingStatus":"Onboarded","deviceValue":"Normal","rbacGroupId":1,"riskScore":"None","exposureLevel":"Low","isAadJoined":true,"ipAddresses":[{"ipAddress":"10.0.0.1","macAddress":"000000000001","type":"Ethernet","operationalStatus":"Up"}]"#;

/// What a device of a number is called.
type Named = fn(u32) -> String;

fn mixed(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn id(number: u32) -> String {
    format!("{0:016x}{0:016x}{number:08x}", mixed(number))
}

fn name(number: u32) -> String {
    format!("ws-{number:07}.site-{}.contoso.example", number % 40)
}

fn entra(number: u32) -> String {
    let high = mixed(number);
    format!("{:08x}-{:04x}-4000-8000-{:012x}", high >> 32, high & 0xffff, number)
}

fn platform(number: u32) -> &'static str {
    ["Windows11", "Windows10", "WindowsServer2022", "macOS", "Linux"][number as usize % 5]
}

pub(crate) fn groups() -> String {
    let mut text = String::new();
    for number in 0..GROUPS {
        let rule = match number % 5 {
            0 => format!("name = [\"starts with ws-{:05}\"]", number * 7),
            1 => format!("tag = [\"equals cost-{number}\", \"contains t-{number}-\"]"),
            2 => format!("name = [\"contains {number:05}\"], os_platform = [\"starts with windows\"]"),
            3 => format!(
                "domain = [\"ends with site-{}.contoso.example\"], tag = [\"equals floor-{number}\"]",
                number % 40
            ),
            _ => format!("name = [\"ends with {number}.contoso.example\"], os_platform = [\"equals linux\"]"),
        };
        let rank = number + 1;
        writeln!(text, "[[device_group]]\nname = \"group-{number}\"\nrank = {rank}\nmatch = {{ {rule} }}")
            .unwrap();
    }
    text
}

pub(crate) fn csv(devices: u32) -> String {
    let mut text = "Device ID,Device Name,Domain,AAD Device ID,OS Platform,Tags\n".to_owned();
    for number in 0..devices {
        let (site, os) = (number % 40, platform(number));
        let tags = format!("cost-{};floor-{}", number % 5_000, number % 60);
        writeln!(
            text,
            "{},{},site-{site}.contoso.example,{},{os},{tags}",
            id(number),
            name(number),
            entra(number)
        )
        .unwrap();
    }
    text
}

/// A hundred files at a million devices, as the API's pages come.
fn write_pages(devices: u32, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for first in (0..devices).step_by(10_000) {
        let mut page =
            r#"{"@odata.context":"https://api.example/api/$metadata#Machines","value":["#.to_owned();
        for number in first..devices.min(first + 10_000) {
            let comma = if number == first { "" } else { "," };
            write!(
                page,
                r#"{comma}{{"id":"{}","computerDnsName":"{}","osPlatform":"{}","rbacGroupName":"All","aadDeviceId":"{}","machineTags":["cost-{}","floor-{}"],{REST}}}"#,
                id(number), name(number), platform(number), entra(number), number % 5_000, number % 60
            )
            .unwrap();
        }
        page.push_str("]}");
        std::fs::write(folder.join(format!("page-{first:07}.json")), page).unwrap();
    }
}

fn application() -> String {
    let all: Vec<_> = (0..GROUPS).map(|number| format!("\"group-{number}\"")).collect();
    let all = all.join(", ");
    format!(
        "[[application]]\nid = \"00000000-0000-0000-0003-000000000001\"\nname = \"soar\"\n\
         operations = [\"collect_investigation_package\"]\n\
         device_groups = [\"Ungrouped devices (default)\", {all}]\n"
    )
}

/// Writes the set, but for the inventory.
fn write_set(folder: &Path) {
    for file in shipped::files().iter() {
        let path = folder.join(&**file.name());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.text()).unwrap();
    }
    std::fs::remove_file(folder.join("devices.csv")).unwrap();
    std::fs::write(folder.join("device-groups.toml"), groups()).unwrap();
    std::fs::write(folder.join("applications.toml"), application()).unwrap();
    // They name groups that are not there any more.
    std::fs::write(folder.join("roles.toml"), "").unwrap();
}

/// Reads and compiles the room's part of a folder, once, and says how long that took.
fn compile(folder: &Path, what: &str, clock: &Clock) -> PolicySet {
    let source = PolicySource::Folder(folder.to_owned());
    let start = clock.steady();
    let files = source.files().unwrap();
    let read = clock.steady();
    let mut problems = Problems::default();
    let set = PolicySet::compile(&files, &mut problems);
    let done = clock.steady();
    assert!(problems.is_empty(), "{problems:?}");
    println!(
        "inventory/{what}: read in {:?}, compiled in {:?}, {:?} in all",
        read.since(start),
        done.since(read),
        done.since(start)
    );
    set
}

fn principal() -> Principal {
    let application = ApplicationId::from_u128(APPLICATION);
    let subject = Subject { tenant: TenantId::from_u128(0), application, user: None };
    let kind = PrincipalKind::Application { permissions: vec![Permission::from("Machine.CollectForensics")] };
    Principal { subject, kind, token_id: None, expires: Wall::default() }
}

/// Runs every case.
pub(crate) fn bench(c: &mut Criterion) {
    let clock = Clock::System;
    let caller = principal();
    for devices in SIZES {
        let folder = tempfile::tempdir().unwrap();
        write_set(folder.path());
        std::fs::write(folder.path().join("devices.csv"), csv(devices)).unwrap();
        let set = compile(folder.path(), &format!("{devices} devices, CSV"), &clock);
        std::fs::remove_file(folder.path().join("devices.csv")).unwrap();
        write_pages(devices, &folder.path().join("devices"));
        drop(compile(folder.path(), &format!("{devices} devices, JSON pages"), &clock));
        drop(folder);

        let path = format!("/api/machines/{}/collectInvestigationPackage", id(7));
        let operation = set.route(&Method::POST, &path).unwrap().operation;
        let grant = set.permit(&caller, operation).unwrap();
        let mut group = c.benchmark_group("inventory");
        let kinds: [(&str, Named); 3] = [("id", id), ("Entra id", entra), ("name", name)];
        for (kind, named) in kinds {
            // A walk that meets all of them in no order.
            let order = || (0..devices).map(|step| (u64::from(step) * 7_919 % u64::from(devices)) as u32);
            let refs: Vec<DeviceRef> = order().map(|number| DeviceRef::parse(&named(number))).collect();
            let bare: hashbrown::HashMap<DeviceRef, u32, foldhash::fast::RandomState> =
                refs.iter().cloned().zip(0..).collect();
            let mut walk = refs.iter().cycle();
            group.bench_function(
                BenchmarkId::new(format!("bare hashbrown look-up by {kind}"), devices),
                |b| {
                    b.iter(|| bare.get(black_box(walk.next().unwrap())).copied());
                },
            );
            drop(bare);
            let mut walk = refs.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("look-up by {kind}"), devices), |b| {
                b.iter(|| set.groups_of(black_box(walk.next().unwrap())).next());
            });
            let targets: Vec<[Target; 1]> = refs.into_iter().map(|named| [Target::Device(named)]).collect();
            let mut walk = targets.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("look-up by {kind} and decision"), devices), |b| {
                b.iter(|| grant.reach(black_box(walk.next().unwrap()), &clock).unwrap());
            });
        }
        group.finish();
    }
}
