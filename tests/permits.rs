//! Who may do what to which device: the rows of the two truth tables, through sockets.

mod body;
mod spelt;
mod tried;

use serde_json::{Value, json};
use tollgate::id::{ApplicationId, UserId};
use tollgate::outcome::ReasonCode;
use tollgate::sandbox::issuer::Caller;
use tollgate::source::PolicyFiles;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, EXECUTIVE, EXECUTIVE_SUPPORT, PLAYBOOKS, PORTAL, READERS, RESPONDERS, Setup, TestGateway,
    UNGROUPED, WORKSTATION, bearer, playbooks, policy, portal, responder, rewritten,
};
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, RecordingUpstream};

/// A well-formed device id that the inventory does not have.
const UNKNOWN: &str = "4444444444444444444444444444444444444444";

/// An application that `applications.toml` does not list.
const STRANGER: ApplicationId = ApplicationId::from_u128(0xa9);

/// A user of whom no row says anything else.
const USER: UserId = UserId::from_u128(0xb2);

/// What a call is answered with: let through, or the reason why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Is(u16, &'static str),
}
use Verdict::{Is, Passes};

const MISSING_PERMISSION: Verdict = Is(403, "missing_permission");
const APPLICATION: Verdict = Is(403, "application");
const MISSING_ROLE: Verdict = Is(403, "missing_role");
const OVERAGE: Verdict = Is(403, "group_overage");
const DEVICE_GROUP: Verdict = Is(403, "device_group");
const UNSCOPED: Verdict = Is(403, "unscoped_operation");
const UNKNOWN_ACTION: Verdict = Is(403, "unknown_action");
const UNKNOWN_DEVICE: Verdict = Is(404, "unknown_device");

/// A call, and who makes it.
struct Row(&'static str, Caller, Call, Verdict);

#[derive(Clone, Copy)]
enum Call {
    Collect(&'static str),
    Get(&'static str),
    /// An operation of applications alone.
    Import,
}
use Call::{Collect, Get, Import};

const LIST: Call = Get("/api/machines");

fn user(permissions: &[&str]) -> Caller {
    Caller::user(USER, "someone@test.example", PORTAL).permissions(permissions.iter().copied())
}

/// A user with the delegated permission to collect.
fn collector() -> Caller {
    user(&["Machine.CollectForensics", "Machine.Read"])
}

/// A user who came through the application that is confined to Workstations.
fn through_playbooks() -> Caller {
    Caller::user(USER, "someone@test.example", PLAYBOOKS)
        .permissions(["Machine.CollectForensics", "Machine.Read", "Library.Manage"])
        .groups([RESPONDERS, EXECUTIVE_SUPPORT])
}

fn stranger() -> Caller {
    Caller::application(STRANGER).permissions(["Machine.CollectForensics", "Machine.Read.All"])
}

/// The set in which `playbooks` may see lists of devices, though it is confined.
fn with_lists() -> PolicyFiles {
    rewritten(
        policy(),
        "applications.toml",
        r#"device_groups = ["Workstations"]"#,
        "device_groups = [\"Workstations\"]\nunscoped_operations = [\"list_devices\"]",
    )
}

/// The set in which applications without an entry are left to their permissions.
fn with_strangers() -> PolicyFiles {
    let first = "[[application]]\nid            = \"00000000-0000-0000-0000-0000000000a1\"";
    rewritten(policy(), "applications.toml", first, &format!("unlisted = \"permission\"\n\n{first}"))
}

fn with_device_groups(line: &str) -> PolicyFiles {
    let first = "[[device_group]]\nname         = \"Executives\"";
    rewritten(policy(), "device-groups.toml", first, &format!("{line}\n\n{first}"))
}

/// The set in which two devices of different groups have one name.
fn with_namesakes() -> PolicyFiles {
    let header = "Microsoft Entra Device ID\n";
    let namesakes = "5555555555555555555555555555555555555555,twin.test.example,test.example,Windows11,,00000000-0000-0000-0000-0000000000d5\n\
                     6666666666666666666666666666666666666666,twin.test.example,test.example,Linux,,00000000-0000-0000-0000-0000000000d5\n\
                     7777777777777777777777777777777777777777,pair.test.example,test.example,Windows11,,\n\
                     8888888888888888888888888888888888888888,pair.test.example,test.example,Windows11,,\n";
    rewritten(policy(), "devices.csv", header, &format!("{header}{namesakes}"))
}

async fn start(policy: PolicyFiles) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({ "id": "started-1" })), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(policy).start();
    (upstream, gateway)
}

impl TestGateway {
    async fn make(&self, caller: &Caller, call: Call) -> RawResponse {
        match call {
            Collect(device) => self.collect(caller, device).await,
            Get(path) => self.get(caller, path).await,
            Import => {
                let authorization = bearer(caller);
                let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
                self.connect().await.request("POST", "/api/indicators/import", &headers, COMMENT).await
            }
        }
    }
}

/// Makes the calls in their order; a call that passes reaches the upstream, and no other does.
async fn check(policy: PolicyFiles, rows: impl IntoIterator<Item = Row>) {
    let (upstream, gateway) = start(policy).await;
    let mut forwarded = 0;
    for Row(words, caller, call, expected) in rows {
        let answer = gateway.make(&caller, call).await;
        let verdict = match answer.header("Tollgate-Reason") {
            None => Passes,
            Some(reason) => {
                let word = ReasonCode::ALL.iter().find(|code| code.as_str() == reason);
                Is(answer.status, word.unwrap_or_else(|| panic!("{reason}")).as_str())
            }
        };
        assert_eq!(verdict, expected, "{words}: {answer:?}");
        forwarded += usize::from(verdict == Passes);
        assert_eq!(upstream.requests().len(), forwarded, "{words}");
    }
}

#[tokio::test]
async fn an_application_needs_the_permission_and_an_entry_that_names_operation_and_device_group() {
    let poor = Caller::application(PLAYBOOKS).permissions(["Library.Manage"]);
    let rich = Caller::application(PLAYBOOKS).permissions([
        "Machine.CollectForensics",
        "Machine.Read.All",
        "Ti.ReadWrite.All",
    ]);
    let poor_stranger = Caller::application(STRANGER).permissions(["Library.Manage"]);
    let other = Caller::application(PORTAL).permissions(["Machine.ReadWrite.All"]);
    let delegated = Caller::application(PORTAL).permissions(["Machine.Read"]);
    let cased = Caller::application(PORTAL).permissions(["machine.collectforensics"]);
    let device = Get("/api/machines/1111111111111111111111111111111111111111");
    check(
        policy(),
        [
            Row("permission, operation and device group", playbooks(), Collect(WORKSTATION), Passes),
            Row("no permission", poor.clone(), Collect(WORKSTATION), MISSING_PERMISSION),
            Row("neither roles nor scopes", Caller::application(PLAYBOOKS), LIST, Is(401, "bad_token")),
            Row("a permission in other letters", cased, Collect(WORKSTATION), MISSING_PERMISSION),
            Row("the permission that users need", delegated, device, MISSING_PERMISSION),
            Row("an entry that omits the operation", rich.clone(), device, APPLICATION),
            Row("a device of another group", playbooks(), Collect(EXECUTIVE), DEVICE_GROUP),
            Row("a device of no group", playbooks(), Collect(UNGROUPED), DEVICE_GROUP),
            Row("a list, though confined", playbooks(), LIST, UNSCOPED),
            Row("an entry for everything", portal(), Collect(EXECUTIVE), Passes),
            Row("one of several permissions", other, device, Passes),
            Row("an entry for everything, a list", portal(), LIST, Passes),
            Row("what applications alone may do", portal(), Import, Passes),
            Row("no entry", stranger(), Collect(WORKSTATION), APPLICATION),
            Row("no entry and no permission", poor_stranger, LIST, MISSING_PERMISSION),
        ],
    )
    .await;
}

#[tokio::test]
async fn unlisted_applications_are_left_to_their_permissions_where_the_policy_says_so() {
    let poor = Caller::application(STRANGER).permissions(["Machine.CollectForensics"]);
    check(
        with_strangers(),
        [
            Row("no entry, a device of any group", stranger(), Collect(EXECUTIVE), Passes),
            Row("no entry, an unknown device", stranger(), Collect(UNKNOWN), Passes),
            Row("no entry, a list", stranger(), LIST, Passes),
            Row("no entry and no permission", poor, LIST, MISSING_PERMISSION),
            Row("an entry confines as before", playbooks(), Collect(EXECUTIVE), DEVICE_GROUP),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_user_needs_the_permission_and_a_role_and_the_device_group() {
    let responds = || collector().groups([RESPONDERS]);
    let supports = || collector().groups([RESPONDERS, EXECUTIVE_SUPPORT]);
    let by_id = Caller::user(UserId::from_u128(0xb9), "by-id@test.example", PORTAL)
        .permissions(["Machine.CollectForensics"]);
    let by_id_overage = by_id.clone().group_overage();
    check(
        policy(),
        [
            Row("permission, role and an open group", responder(), Collect(WORKSTATION), Passes),
            Row("an ungrouped device is open to all with a role", responds(), Collect(UNGROUPED), Passes),
            Row("a group of other users", responds(), Collect(EXECUTIVE), DEVICE_GROUP),
            Row("a group of this user", supports(), Collect(EXECUTIVE), Passes),
            Row(
                "the group alone is no role",
                collector().groups([EXECUTIVE_SUPPORT]),
                Collect(EXECUTIVE),
                MISSING_ROLE,
            ),
            Row("no role", collector(), Collect(WORKSTATION), MISSING_ROLE),
            Row("a role that lacks it", collector().groups([READERS]), Collect(WORKSTATION), MISSING_ROLE),
            Row("the role that is enough to read", collector().groups([READERS]), LIST, Passes),
            Row("a role by user id", by_id, Collect(WORKSTATION), Passes),
            Row(
                "no delegated permission",
                user(&["Machine.Read"]).groups([RESPONDERS]),
                Collect(WORKSTATION),
                MISSING_PERMISSION,
            ),
            Row(
                "the permission that applications need",
                user(&["Machine.Read.All"]).groups([RESPONDERS]),
                LIST,
                MISSING_PERMISSION,
            ),
            Row(
                "too many groups to tell the role",
                collector().group_overage(),
                Collect(WORKSTATION),
                OVERAGE,
            ),
            Row(
                "too many groups, the short way",
                collector().claim("hasgroups", true),
                Collect(WORKSTATION),
                OVERAGE,
            ),
            Row("too many groups, a role by user id", by_id_overage.clone(), Collect(WORKSTATION), Passes),
            Row("too many groups to tell the device group", by_id_overage, Collect(EXECUTIVE), OVERAGE),
            Row(
                "what no user may do",
                user(&["Ti.ReadWrite.All"]).groups([RESPONDERS]),
                Import,
                MISSING_PERMISSION,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_user_is_held_to_the_entry_of_the_application_they_came_through() {
    let through_stranger = Caller::user(USER, "someone@test.example", STRANGER)
        .permissions(["Machine.CollectForensics"])
        .groups([RESPONDERS]);
    let device = Get("/api/machines/1111111111111111111111111111111111111111");
    let roleless = through_playbooks().groups([]);
    check(
        policy(),
        [
            Row("operation and group of both", through_playbooks(), Collect(WORKSTATION), Passes),
            Row("a group of the user alone", through_playbooks(), Collect(EXECUTIVE), DEVICE_GROUP),
            Row("an operation that the entry omits", through_playbooks(), device, APPLICATION),
            Row("a list through a confined application", through_playbooks(), LIST, UNSCOPED),
            Row("the entry is asked before the role", roleless.clone(), device, APPLICATION),
            Row("and the role after it", roleless, Collect(WORKSTATION), MISSING_ROLE),
            Row(
                "an application without an entry binds no user",
                through_stranger,
                Collect(WORKSTATION),
                Passes,
            ),
        ],
    )
    .await;
    check(
        with_lists(),
        [
            Row("a list that the entry allows", through_playbooks(), LIST, Passes),
            Row("and to the application itself", playbooks(), LIST, Passes),
            Row("which opens no device", playbooks(), Collect(EXECUTIVE), DEVICE_GROUP),
        ],
    )
    .await;
}

#[tokio::test]
async fn only_a_caller_with_the_permission_learns_that_a_device_is_unknown() {
    check(
        policy(),
        [
            Row("a confined application", playbooks(), Collect(UNKNOWN), UNKNOWN_DEVICE),
            Row("a bound user", responder(), Collect(UNKNOWN), UNKNOWN_DEVICE),
            Row("by a name that nobody has", responder(), Collect("nobody.test.example"), UNKNOWN_DEVICE),
            Row(
                "an application without the permission",
                Caller::application(PLAYBOOKS).permissions(["Library.Manage"]),
                Collect(UNKNOWN),
                MISSING_PERMISSION,
            ),
            Row("an application without an entry", stranger(), Collect(UNKNOWN), APPLICATION),
            Row("a user without the role", collector(), Collect(UNKNOWN), MISSING_ROLE),
            Row("whom nothing binds is not looked up", portal(), Collect(UNKNOWN), Passes),
        ],
    )
    .await;
    let ungrouped = with_device_groups(r#"unknown_device = "ungrouped""#);
    check(
        ungrouped,
        [
            Row("as an ungrouped device, to a user", responder(), Collect(UNKNOWN), Passes),
            Row("as an ungrouped device, to an application", playbooks(), Collect(UNKNOWN), DEVICE_GROUP),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_device_is_found_by_each_of_its_names_in_any_case() {
    let names = [
        ("its id", WORKSTATION, EXECUTIVE),
        ("its DNS name", "ws-1.test.example", "exec-1.test.example"),
        ("its DNS name in capitals", "WS-1.Test.EXAMPLE", "EXEC-1.TEST.example"),
        ("its first label", "ws-1", "Exec-1"),
    ];
    let (_upstream, gateway) = start(policy()).await;
    for (words, inside, outside) in names {
        assert_eq!(gateway.collect(&playbooks(), inside).await.status, 201, "{words}");
        let refused = gateway.collect(&playbooks(), outside).await;
        assert_eq!(refused.header("Tollgate-Reason"), Some("device_group"), "{words}");
    }
    let hexadecimal = rewritten(
        policy(),
        "devices.csv",
        "1111111111111111111111111111111111111111",
        "abcdef1111111111111111111111111111111111",
    );
    let hexadecimal = rewritten(hexadecimal, "devices.csv", "0000000000d1", "0000000000dd");
    check(
        hexadecimal,
        [
            Row(
                "an id in capitals",
                playbooks(),
                Collect("ABCDEF1111111111111111111111111111111111"),
                Passes,
            ),
            Row("an Entra id", playbooks(), Collect("00000000-0000-0000-0000-0000000000dd"), Passes),
            Row(
                "an Entra id in capitals",
                playbooks(),
                Collect("00000000-0000-0000-0000-0000000000DD"),
                Passes,
            ),
            Row(
                "an Entra id that nobody has",
                playbooks(),
                Collect("00000000-0000-0000-0000-0000000000d1"),
                UNKNOWN_DEVICE,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_name_that_fits_several_devices_must_be_open_on_every_one() {
    check(
        with_namesakes(),
        [
            Row("two groups, one of them outside", playbooks(), Collect("twin.test.example"), DEVICE_GROUP),
            Row(
                "the same by Entra id",
                playbooks(),
                Collect("00000000-0000-0000-0000-0000000000d5"),
                DEVICE_GROUP,
            ),
            Row(
                "by the id of the one inside",
                playbooks(),
                Collect("5555555555555555555555555555555555555555"),
                Passes,
            ),
            Row(
                "by the id of the one outside",
                playbooks(),
                Collect("6666666666666666666666666666666666666666"),
                DEVICE_GROUP,
            ),
            Row("two of one group", playbooks(), Collect("pair.test.example"), Passes),
            Row("a user to whom both are open", responder(), Collect("twin.test.example"), Passes),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_action_is_held_to_the_device_that_it_was_started_on() {
    let uri = Get("/api/machineactions/STARTED-1/getPackageUri");
    check(
        policy(),
        [
            Row("an action of nobody, confined", playbooks(), uri, UNKNOWN_ACTION),
            Row("an action of nobody, a bound user", responder(), uri, UNKNOWN_ACTION),
            Row("it is started on a workstation", playbooks(), Collect(WORKSTATION), Passes),
            Row("and is open to who may act on that", playbooks(), uri, Passes),
            Row("a user as well", responder(), uri, Passes),
            // The upstream of this test gives every action the same id: now it is an executive's.
            Row("it is started on an executive's device", portal(), Collect(EXECUTIVE), Passes),
            Row("and is closed to who may not act on that", playbooks(), uri, DEVICE_GROUP),
            Row("to users likewise", responder(), uri, DEVICE_GROUP),
            Row(
                "but not to those of its group",
                collector().groups([RESPONDERS, EXECUTIVE_SUPPORT]),
                uri,
                Passes,
            ),
        ],
    )
    .await;
    let forward = with_device_groups(r#"unknown_action = "forward""#);
    check(forward, [Row("an action of nobody, by policy", playbooks(), uri, Passes)]).await;
    check(policy(), [Row("an action of nobody, unbound", portal(), uri, Passes)]).await;
}

#[tokio::test]
async fn application_and_user_tokens_are_never_mixed() {
    let roles = json!(["Machine.CollectForensics", "Machine.Read.All"]);
    let scopes = "Machine.CollectForensics";
    check(
        policy(),
        [
            Row(
                "the roles of a user token grant nothing",
                user(&["Machine.Read"]).groups([RESPONDERS]).claim("roles", roles),
                Collect(WORKSTATION),
                MISSING_PERMISSION,
            ),
            Row(
                "an application's token with scopes is a user's, and a user needs a role",
                playbooks().claim("scp", scopes),
                Collect(WORKSTATION),
                MISSING_ROLE,
            ),
            Row(
                "a token that calls itself an application's and has scopes",
                playbooks().claim("idtyp", "app").claim("scp", scopes),
                Collect(WORKSTATION),
                Is(401, "bad_token"),
            ),
            Row(
                "a token that calls itself a user's and has none",
                responder().claim("idtyp", "user").claim("scp", Value::Null),
                Collect(WORKSTATION),
                Is(401, "bad_token"),
            ),
            Row("empty scopes", responder().claim("scp", ""), Collect(WORKSTATION), Is(401, "bad_token")),
            Row(
                "scopes of spaces",
                responder().claim("scp", "  "),
                Collect(WORKSTATION),
                Is(401, "bad_token"),
            ),
            Row(
                "an application that says so",
                playbooks().claim("idtyp", "app"),
                Collect(WORKSTATION),
                Passes,
            ),
            Row("a user who says so", responder().claim("idtyp", "user"), Collect(WORKSTATION), Passes),
        ],
    )
    .await;
}
