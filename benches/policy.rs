//! The policy room's share of a decision: routing, and permit with reach at 10,000 devices beside a bare look-up.

#![expect(clippy::unwrap_used, reason = "a bench that cannot build its world has nothing to measure")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::Criterion;
use http::Method;
use tollgate::id::{ApplicationId, DeviceId, DeviceRef, EntraGroupId, Permission, TenantId, UserId};
use tollgate::policy::PolicySet;
use tollgate::principal::{Groups, Principal, PrincipalKind, Subject, Target};
use tollgate::sandbox::shipped;
use tollgate::source::{Problems, SourceFile};
use tollgate::time::{Clock, Wall};

const DEVICES: u32 = 10_000;

const APPLICATIONS: &str = r#"
[[application]]
id            = "00000000-0000-0000-0003-000000000001"
name          = "soar-playbooks"
operations    = ["collect_investigation_package"]
device_groups = ["Servers", "Workstations"]
"#;

/// Forty digits that look like nothing in particular: Defender's ids are SHA-1 sums.
fn device_id(number: u32) -> String {
    let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{mixed:016x}{number:08x}")
}

fn device_name(number: u32) -> String {
    format!("ws-{number:05}.contoso.example")
}

fn set() -> PolicySet {
    let mut devices = "Device ID,Device Name,OS Platform\n".to_owned();
    for number in 0..DEVICES {
        writeln!(devices, "{},{},Windows11", device_id(number), device_name(number)).unwrap();
    }
    let mut files = shipped::files();
    for (name, text) in [("applications.toml", APPLICATIONS), ("devices.csv", devices.as_str())] {
        files.insert(SourceFile::new(name, text));
    }
    let mut problems = Problems::default();
    let set = PolicySet::compile(&files, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    set
}

fn principal(user: Option<UserId>, kind: PrincipalKind) -> Principal {
    let application = ApplicationId::from_u128(0x3_0000_0000_0001);
    let subject = Subject { tenant: TenantId::from_u128(0), application, user };
    Principal { subject, kind, token_id: None, expires: Wall::default() }
}

/// Runs every case.
pub(crate) fn bench(c: &mut Criterion) {
    let (set, clock) = (set(), Clock::System);
    let permissions = || vec![Permission::from("Machine.CollectForensics")];
    let application = principal(None, PrincipalKind::Application { permissions: permissions() });
    let groups = Groups::Listed((0..20).map(|n| EntraGroupId::from_u128(0x1_0000_0000_0002 - n)).collect());
    let user = PrincipalKind::User { permissions: permissions(), groups };
    let user = principal(Some(UserId::from_u128(5)), user);

    let path = format!("/api/machines/{}/collectInvestigationPackage", device_id(77));
    let operation = set.route(&Method::POST, &path).unwrap().operation;
    let targets = |named: fn(u32) -> String| -> Vec<[Target; 1]> {
        (0..DEVICES).map(|number| [Target::Device(DeviceRef::parse(&named(number)))]).collect()
    };
    let (by_id, by_name) = (targets(device_id), targets(device_name));
    let bare: HashMap<DeviceId, u32, foldhash::fast::RandomState> =
        (0..DEVICES).map(|number| (device_id(number).parse().unwrap(), number)).collect();
    let ids: Vec<DeviceId> = (0..DEVICES).map(|number| device_id(number).parse().unwrap()).collect();

    let mut group = c.benchmark_group("policy");
    group
        .bench_function("route", |b| b.iter(|| set.route(&Method::POST, black_box(&path)).map(|r| r.device)));
    let mut ids = ids.iter().cycle();
    group.bench_function("a bare HashMap look-up", |b| b.iter(|| bare.get(ids.next().unwrap()).copied()));
    for (name, caller, targets) in [
        ("an application, device by id", &application, &by_id),
        ("an application, device by name", &application, &by_name),
        ("a user of 20 groups, device by id", &user, &by_id),
    ] {
        let mut targets = targets.iter().cycle();
        group.bench_function(format!("permit and reach: {name}"), |b| {
            b.iter(|| {
                set.permit(black_box(caller), operation)
                    .unwrap()
                    .reach(targets.next().unwrap(), &clock)
                    .unwrap()
            });
        });
    }
    group.finish();
}
