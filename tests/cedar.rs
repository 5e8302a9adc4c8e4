//! Tollgate's decisions beside those of another engine: random policy documents are written as the files that a user
//! writes, and as Cedar policies and entities, and both are asked about the same calls. What the two sides share is
//! the documents as their author thinks of them, in `cedar/documents.rs`, and the numbers of the seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use cedar_policy::Decision;
use tollgate::id::{ApplicationId, DeviceRef, EntraGroupId, Permission, TenantId, UserId};
use tollgate::policy::{Operation, PolicySet, Reach};
use tollgate::principal::{Groups, Principal, PrincipalKind, Subject, Target};
use tollgate::source::Problems;
use tollgate::time::{Clock, Wall};

use crate::support::dice::Dice;
use documents::{Caller, Documents, Names};
use judge::{Judge, Named};

mod documents;
mod files;
mod judge;
mod policies;
mod random;

/// Cases that are decided where `TOLLGATE_CEDAR` does not say how many.
const CASES: usize = 10_000;

/// Cases that each set of documents is asked: what costs most is to make the set.
const CASES_A_SET: usize = 100;

const CALLERS: usize = 12;

/// The most policies of a set.
const MAX_POLICIES: usize = 100;

/// When the inventory was written.
const WRITTEN: Wall = Wall::from_unix_seconds(1_800_000_000);

/// How long ago that is to a call, in hours: around the age from which on it may be too old.
const AGES: [i64; 4] = [0, 36, 37, 1_000];

/// Every word that can come of permission and reach, and what is not enforced.
const ALL: [&str; 11] = [
    "application",
    "device_group",
    "group_overage",
    "missing_permission",
    "missing_role",
    "passes",
    "passes, though what is tried would refuse it",
    "stale_inventory",
    "unknown_action",
    "unknown_device",
    "unscoped_operation",
];

#[test]
fn calls_are_decided_as_cedar_decides_them_on_policies_made_of_the_same_documents() {
    let cases = std::env::var("TOLLGATE_CEDAR").map_or(CASES, |number| number.parse().unwrap());
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut largest = 0;
    for set in 0..cases.div_ceil(CASES_A_SET) {
        let mut dice = Dice::new(set as u64);
        let documents = Documents::random(&mut dice);
        let callers: Vec<_> = (0..CALLERS).map(|_| Caller::random(&documents, &mut dice)).collect();
        let tollgate = compile(&documents);
        let cedar = Judge::new(&documents, &callers);
        assert!(cedar.policies() <= MAX_POLICIES, "{} policies", cedar.policies());
        largest = largest.max(cedar.policies());
        for _ in 0..CASES_A_SET.min(cases - set * CASES_A_SET) {
            let caller = dice.below(CALLERS);
            let operation = dice.of(&documents.operations);
            let named = documents.random_named(operation, &mut dice);
            let hours = *dice.of(&AGES);
            let outcome = decide(&tollgate, &callers[caller], operation, &named, hours);
            let requests = cedar.requests((caller, &callers[caller]), operation, &named, hours);
            let passes = outcome.starts_with("passes");
            assert_eq!(
                cedar.decide(&requests) == Decision::Allow,
                passes,
                "set {set}: `{outcome}` of {:?} calling {operation:?} on {named:?} with an inventory of {hours} h\n\n{}",
                callers[caller],
                both_sides(&documents)
            );
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    println!("{cases} cases, at most {largest} policies a set: {outcomes:?}");
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ALL, "{outcomes:?}");
    let passed: usize = outcomes.iter().filter(|(word, _)| word.starts_with("passes")).map(|(_, n)| n).sum();
    assert!((cases / 5..cases * 4 / 5).contains(&passed), "{passed} of {cases} pass");
}

fn compile(documents: &Documents) -> PolicySet {
    let mut problems = Problems::default();
    let set = PolicySet::compile(&documents.files(Some(WRITTEN)), &mut problems);
    assert!(problems.is_empty(), "{:?}\n\n{}", problems.into_sorted(), both_sides(documents));
    set
}

/// What the policy room makes of a call: that it passes, or the reason why not.
fn decide(
    set: &PolicySet,
    caller: &Caller,
    documented: &documents::Operation,
    named: &Named,
    inventory_hours: i64,
) -> String {
    let (clock, _) = Clock::manual(WRITTEN + Duration::from_secs(inventory_hours as u64 * 3_600));
    let parameter = match (named, documented.names) {
        (Named::Devices(devices), Names::Path) => &devices[0],
        (_, Names::Path) => "some-pc",
        (_, Names::Action | Names::Body | Names::Nowhere) => "0000000000000000000000000000000000000001",
    };
    let (method, path) = documented.request(parameter);
    let routed = set.route(&method.parse().unwrap(), &path).unwrap();
    assert_eq!(routed.operation.id().as_str(), documented.name);
    let targets = match (named, documented.names) {
        (Named::Nothing, _) => Vec::new(),
        (Named::UnknownAction, _) => vec![Target::UnknownAction(routed.action.unwrap())],
        (Named::Devices(_), Names::Path) => vec![Target::Device(routed.device.unwrap())],
        (Named::Devices(devices), Names::Body) => in_body(routed.operation, devices),
        // Which device is behind an action, others know.
        (Named::Devices(devices), _) => vec![Target::Device(DeviceRef::parse(&devices[0]))],
    };
    let principal = principal(caller);
    let grant = match set.permit(&principal, routed.operation) {
        Ok(grant) => grant,
        Err(error) => return error.reason().to_string(),
    };
    match grant.reach(&targets, &clock) {
        Ok(Reach { scope, tried: None }) if scope.overrun.is_empty() => "passes".to_owned(),
        Ok(_) => "passes, though what is tried would refuse it".to_owned(),
        Err(error) => error.reason().to_string(),
    }
}

fn in_body(operation: &Operation, devices: &[String]) -> Vec<Target> {
    let body = serde_json::json!({ "MachineIds": devices }).to_string();
    let contents = operation.body().unwrap().check(body.as_bytes()).unwrap();
    contents.devices.into_iter().map(Target::Device).collect()
}

fn principal(caller: &Caller) -> Principal {
    let permissions = caller.permissions.iter().map(|word| Permission::from(&**word)).collect();
    let listed =
        |groups: &Vec<u128>| Groups::Listed(groups.iter().map(|id| EntraGroupId::from_u128(*id)).collect());
    let kind = match &caller.user {
        None => PrincipalKind::Application { permissions },
        Some(user) => {
            PrincipalKind::User { permissions, groups: user.groups.as_ref().map_or(Groups::Overage, listed) }
        }
    };
    let subject = Subject {
        tenant: TenantId::from_u128(caller.tenant),
        application: ApplicationId::from_u128(caller.application),
        user: caller.user.as_ref().map(|user| UserId::from_u128(user.id)),
    };
    Principal { subject, kind, token_id: None, expires: Wall::default() }
}

/// A set as both engines were given it.
fn both_sides(documents: &Documents) -> String {
    let mut text = String::new();
    for file in documents.files(None).iter() {
        writeln!(text, "# {}\n{}", file.name(), file.text()).unwrap();
    }
    text + &documents.policies() + &documents.rules()
}
