//! The calls to paste: one line each, one kind of answer each, the same answer every time.

use std::net::SocketAddr;

use crate::outcome::ReasonCode;
use crate::sandbox::world::devices::{COLLECTION, NO_DEVICE, SandboxDevice};
use crate::sandbox::world::people::{Tokens, Who};

/// A call to paste into a shell, and what comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who calls for what, in a sentence.
    pub title: &'static str,
    /// One line for a POSIX shell that begins with `curl`. It prints the answer with its headers and, last, the
    /// status.
    pub line: String,
    /// The answer to expect, in a sentence.
    pub expect: &'static str,
    /// Its status; of the last answer, if the line calls more than once.
    pub status: u16,
    /// Its `Tollgate-Reason`; none for an answer of the API.
    pub reason: Option<ReasonCode>,
}

/// A member `Comment`, as the service wants it.
const COMMENT: &str = r#"{"Comment":"Collect forensics due to alert 1234"}"#;

/// The calls of a gateway at this address.
///
/// Each has a device of its own. Only one of them, the last, is refused for a limit, and no other spends that limit.
pub fn calls(gateway: SocketAddr, tokens: &Tokens) -> Vec<Call> {
    let curl = Curl { gateway, tokens };
    vec![
        Call {
            title: "The SOAR collects a package from a workstation, by the device's id",
            line: curl.collect(Some(Who::Playbooks), SandboxDevice::IDLE.id, COMMENT),
            expect: "201 from the API: a machineAction, Pending",
            status: 201,
            reason: None,
        },
        Call {
            title: "An analyst collects from a workstation that is busy with a collection, by the device's name",
            line: curl.collect(Some(Who::Responder), &SandboxDevice::BUSY.dns_name(), COMMENT),
            expect: "400 from the API: ActiveRequestAlreadyExists",
            status: 400,
            reason: None,
        },
        Call {
            title: "An analyst forgets the comment",
            line: curl.collect(Some(Who::Responder), SandboxDevice::WITHOUT_COMMENT.id, "{}"),
            expect: "400 MissingRequiredParameter",
            status: 400,
            reason: Some(ReasonCode::MissingParameter),
        },
        Call {
            title: "Nobody in particular: no token",
            line: curl.collect(None, SandboxDevice::WITHOUT_TOKEN.id, COMMENT),
            expect: "401 Unauthorized, with a challenge in WWW-Authenticate",
            status: 401,
            reason: Some(ReasonCode::NoToken),
        },
        Call {
            title: "An analyst whose token lacks Machine.Read reads a device",
            line: curl.machine(Who::Outsider, SandboxDevice::WITHOUT_PERMISSION.id),
            expect: "403 Forbidden for the permission",
            status: 403,
            reason: Some(ReasonCode::MissingPermission),
        },
        Call {
            title: "An analyst whose role lacks \"Alerts investigation\" collects from a workstation",
            line: curl.collect(Some(Who::Reader), SandboxDevice::WITHOUT_ROLE.id, COMMENT),
            expect: "403 Forbidden for the role",
            status: 403,
            reason: Some(ReasonCode::MissingRole),
        },
        Call {
            title: "An analyst with no access to Executives collects from one of their devices",
            line: curl.collect(Some(Who::Outsider), SandboxDevice::EXECUTIVE_OF_USER.id, COMMENT),
            expect: "403 Forbidden for the device group",
            status: 403,
            reason: Some(ReasonCode::DeviceGroup),
        },
        Call {
            title: "The SOAR, confined to Workstations and Servers, does the same: the API alone would let it",
            line: curl.collect(
                Some(Who::Playbooks),
                &SandboxDevice::EXECUTIVE_OF_APPLICATION.dns_name(),
                COMMENT,
            ),
            expect: "403 Forbidden for the device group",
            status: 403,
            reason: Some(ReasonCode::DeviceGroup),
        },
        Call {
            title: "The SOAR reads a device, which its entry in applications.toml does not give it",
            line: curl.machine(Who::Playbooks, SandboxDevice::UNLISTED_OPERATION.id),
            expect: "403 Forbidden for the application",
            status: 403,
            reason: Some(ReasonCode::Application),
        },
        Call {
            title: "The SOAR collects from a device that the inventory lacks",
            line: curl.collect(Some(Who::Playbooks), NO_DEVICE, COMMENT),
            expect: "404 ResourceNotFound",
            status: 404,
            reason: Some(ReasonCode::UnknownDevice),
        },
        Call {
            title: "The SOAR asks three times for the address of a package; two a minute are allowed",
            line: curl.package_uri_thrice(Who::Playbooks),
            expect: "429 TooManyRequests in the end, with Retry-After",
            status: 429,
            reason: Some(ReasonCode::OverLimit),
        },
    ]
}

/// What every line begins with and carries.
struct Curl<'a> {
    gateway: SocketAddr,
    tokens: &'a Tokens,
}

// === impl Curl ===

impl Curl<'_> {
    fn collect(&self, who: Option<Who>, device: &str, body: &str) -> String {
        let url = self.url(&format!("machines/{device}/collectInvestigationPackage"));
        let token = who.map(|who| self.token(who)).unwrap_or_default();
        format!("{CURL} {url}{token} -H 'Content-Type: application/json' -d '{body}'")
    }

    fn machine(&self, who: Who, device: &str) -> String {
        format!("{CURL} {}{}", self.url(&format!("machines/{device}")), self.token(who))
    }

    fn package_uri_thrice(&self, who: Who) -> String {
        let url = self.url(&format!("machineactions/{COLLECTION}/getPackageUri"));
        format!("{CURL} {url} {url} {url}{}", self.token(who))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/{path}", self.gateway)
    }

    fn token(&self, who: Who) -> String {
        format!(" -H 'Authorization: Bearer {}'", self.tokens.of(who))
    }
}

/// Quiet but for errors, never through a proxy of the user's, with the answer's headers, and the status in a line of
/// its own at the end.
const CURL: &str = r"curl -sS --noproxy '*' -i -w '\n%{http_code}\n'";
