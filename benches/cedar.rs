//! A decision of the policy room beside one of Cedar's, on policies and entities made of the same documents: 1,000
//! devices, 100 device groups, callers who may act on half of them. The documents and Cedar's side are those of the
//! tests that hold both to each other.

use std::hint::black_box;

use cedar_policy::Decision;
use criterion::Criterion;
use tollgate::id::{ApplicationId, DeviceRef, EntraGroupId, Permission, TenantId, UserId};
use tollgate::policy::PolicySet;
use tollgate::principal::{Groups, Principal, PrincipalKind, Subject, Target};
use tollgate::source::Problems;
use tollgate::time::{Clock, Wall};

use documents::{
    Application, Caller, Condition, Device, Documents, Effect, Group, How, List, Modes, Names, Operation,
    Role, Rule, Source, UNGROUPED, UnknownAction, UnknownDevice, Unlisted, User,
};
use judge::{Judge, Named};

#[expect(dead_code, reason = "the tests' documents have more words")]
#[path = "../tests/cedar/documents.rs"]
mod documents;
#[path = "../tests/cedar/files.rs"]
mod files;
#[expect(dead_code, reason = "the tests' calls name more")]
#[path = "../tests/cedar/judge.rs"]
mod judge;
#[path = "../tests/cedar/policies.rs"]
mod policies;

const DEVICES: usize = 1_000;

const GROUPS: usize = 100;

const OPERATIONS: usize = 10;

const APPLICATION: u128 = 0xa0;

const TENANT: u128 = 0x71;

/// Runs both sides, once it is sure that they decide alike.
pub(crate) fn bench(c: &mut Criterion) {
    let (documents, clock) = (documents(), Clock::System);
    let callers =
        [caller(None), caller(Some(User { id: 0xb0, groups: Some((0..20).map(entra_group).collect()) }))];
    let mut problems = Problems::default();
    let set = PolicySet::compile(&documents.files(None), &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.into_sorted());
    let cedar = Judge::new(&documents, &callers);
    println!("policy: {GROUPS} groups, {DEVICES} devices, {} Cedar policies", cedar.policies());

    let mut group = c.benchmark_group("policy");
    for (number, (who, caller)) in ["an application", "a user of 20 groups"].iter().zip(&callers).enumerate()
    {
        let principal = principal(caller);
        let (method, path) = documents.operations[0].request("some-pc");
        let operation = set.route(&method.parse().unwrap(), &path).unwrap().operation;
        // In an order in which no group follows itself.
        let devices = (0..DEVICES).map(|step| &documents.devices[step * 7_919 % DEVICES]);
        let cases: Vec<_> = devices
            .map(|device| {
                let named = Named::Devices(vec![device.id.clone()]);
                let requests = cedar.requests((number, caller), &documents.operations[0], &named, 0);
                ([Target::Device(DeviceRef::parse(&device.id))], requests)
            })
            .collect();
        let ours = |targets: &[Target]| set.permit(&principal, operation).unwrap().reach(targets, &clock);
        let mut allowed = 0;
        for (targets, requests) in &cases {
            let both = (ours(targets).is_ok(), cedar.decide(requests) == Decision::Allow);
            assert_eq!(both.0, both.1, "{targets:?}");
            allowed += usize::from(both.0);
        }
        println!("policy: {who} may act on {allowed} of the devices");
        let mut walk = cases.iter().cycle();
        group.bench_function(format!("{GROUPS} groups, {who}: decision"), |b| {
            b.iter(|| ours(black_box(&walk.next().unwrap().0)).is_ok());
        });
        let mut walk = cases.iter().cycle();
        group.bench_function(format!("{GROUPS} groups, {who}: decision by Cedar"), |b| {
            b.iter(|| cedar.decide(black_box(&walk.next().unwrap().1)));
        });
    }
    group.finish();
}

fn entra_group(number: usize) -> u128 {
    0xe000 + number as u128
}

/// Every other group is open to the application; of those, some to few users.
fn documents() -> Documents {
    let group = |number: usize| Group {
        name: format!("group-{number}"),
        rank: number + 1,
        rule: Rule {
            name: vec![Condition { how: How::StartsWith, value: format!("ws-{number:02}-") }],
            ..Rule::default()
        },
        entra_groups: if number.is_multiple_of(2) { vec![entra_group(number / 2 % 40)] } else { Vec::new() },
        effect: Effect::Enforced,
    };
    let operation = |number: usize| Operation {
        name: format!("operation_{number}"),
        names: Names::Path,
        application: vec![format!("Machine.Act{number}")],
        delegated: vec![format!("Machine.Act{number}")],
        roles: vec!["Alerts investigation"],
    };
    let device = |number: usize| Device {
        id: format!("{0:016x}{0:016x}{number:08x}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        entra: Some(0xdd00 + number as u128),
        name: format!("ws-{:02}-{number}.corp.example", number % GROUPS),
        domain: "corp.example".to_owned(),
        os_platform: "Windows11".to_owned(),
        tags: Vec::new(),
        group: String::new(),
    };
    let groups: Vec<_> = (0..GROUPS).map(group).collect();
    let mine = groups.iter().step_by(2).map(|group| group.name.clone()).collect();
    Documents {
        operations: (0..OPERATIONS).map(operation).collect(),
        roles: vec![Role {
            name: "Responders".to_owned(),
            tenants: None,
            effect: Effect::Enforced,
            permissions: vec!["View data", "Alerts investigation"],
            entra_groups: vec![entra_group(0)],
            users: Vec::new(),
        }],
        ungrouped: Group { name: UNGROUPED.to_owned(), ..group(GROUPS + 1) },
        applications: vec![Application {
            id: APPLICATION,
            tenants: None,
            name: "playbooks".to_owned(),
            operations: List::All,
            device_groups: List::Only(mine),
            unscoped_operations: Vec::new(),
        }],
        devices: (0..DEVICES).map(device).collect(),
        modes: Modes {
            effect: Effect::Enforced,
            source: Source::Rules,
            unlisted: Unlisted::Refuse,
            unknown_device: UnknownDevice::Refuse,
            unknown_action: UnknownAction::Refuse,
            stale: None,
        },
        groups,
    }
}

/// The application on its own, or a user through another one that nothing confines.
fn caller(user: Option<User>) -> Caller {
    let application = if user.is_some() { APPLICATION + 1 } else { APPLICATION };
    Caller { tenant: TENANT, application, permissions: vec!["Machine.Act0".to_owned()], user }
}

fn principal(caller: &Caller) -> Principal {
    let permissions = caller.permissions.iter().map(|word| Permission::from(&**word)).collect();
    let kind = match &caller.user {
        None => PrincipalKind::Application { permissions },
        Some(_) => {
            let groups = caller.groups().iter().map(|id| EntraGroupId::from_u128(*id)).collect();
            PrincipalKind::User { permissions, groups: Groups::Listed(groups) }
        }
    };
    let subject = Subject {
        tenant: TenantId::from_u128(TENANT),
        application: ApplicationId::from_u128(caller.application),
        user: caller.user.as_ref().map(|user| UserId::from_u128(user.id)),
    };
    Principal { subject, kind, token_id: None, expires: Wall::default() }
}
