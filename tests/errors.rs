//! Every reason's answer, as a client of the API reads it: one row a reason, each provoked through a socket.

mod scene;

use serde_json::{Value, json};
use tollgate::id::{TenantId, UserId};
use tollgate::outcome::ReasonCode;
use tollgate::sandbox::issuer::Caller;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, EXECUTIVE, PLAYBOOKS, PORTAL, TestGateway, WORKSTATION, bearer, playbooks, portal, responder,
};
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, RecordingUpstream};

use scene::Scene;

/// What a reason answers, and how to get that answer.
struct Row {
    reason: ReasonCode,
    status: u16,
    code: &'static str,
    /// `WWW-Authenticate`.
    challenge: Option<&'static str>,
    /// `Retry-After`.
    retry_after: Option<&'static str>,
    connection: Connection,
    scene: Scene,
    /// Requests that are admitted before.
    before: Vec<Request>,
    request: Request,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connection {
    Kept,
    Closed,
}

/// A request's bytes.
type Request = Vec<u8>;

#[tokio::test]
async fn each_reason_answers_with_its_row_of_the_table() {
    for row in ReasonCode::ALL.iter().flat_map(|reason| rows(*reason)) {
        row.check().await;
    }
}

#[test]
fn every_reason_that_a_caller_alone_can_provoke_has_a_row() {
    let without: Vec<_> = ReasonCode::ALL.iter().filter(|reason| rows(**reason).is_empty()).collect();
    assert_eq!(
        without,
        [
            &ReasonCode::InFlight,
            &ReasonCode::OpenActions,
            &ReasonCode::UpstreamLimited,
            &ReasonCode::ShuttingDown,
            &ReasonCode::Overload,
            &ReasonCode::StoreUnavailable,
            &ReasonCode::ClientGone,
            &ReasonCode::Internal
        ]
    );
}

#[tokio::test]
async fn the_messages_say_what_was_needed_and_what_was_held_and_quotas_speak_as_the_service_does() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = TestGateway::start(upstream.address());
    let poor = Caller::application(PLAYBOOKS).permissions(["Machine.Read.All", "Library.Manage"]);
    let message = |answer: &RawResponse| text(&answer.json()["error"]["message"]).to_owned();

    let refused = gateway.collect(&poor, WORKSTATION).await;
    assert_eq!(
        message(&refused),
        "Missing application roles. API required roles: Machine.CollectForensics, application roles: Machine.Read.All,Library.Manage."
    );
    let action = "/api/machineactions/1/getPackageUri";
    for _ in 0..2 {
        gateway.get(&portal(), action).await.assert_status(200);
    }
    let limited = gateway.get(&portal(), action).await;
    assert_eq!(message(&limited), "API calls quota exceeded! maximum allowed 2 per 00:01:00");
    assert_eq!(
        limited.header("RateLimit-Policy"),
        Some(r#""package_uri-minute";q=2;w=60, "package_uri-hour";q=120;w=3600"#)
    );
    assert_eq!(
        limited.header("RateLimit"),
        Some(r#""package_uri-minute";r=0;t=60, "package_uri-hour";r=118;t=3600"#)
    );
}

/// The rows of a reason. A reason without an arm here does not compile.
fn rows(reason: ReasonCode) -> Vec<Row> {
    use ReasonCode as R;
    let collects = || collect(&bearer(&playbooks()), WORKSTATION, COMMENT);
    let row = |status, code, request| Row {
        reason,
        status,
        code,
        challenge: None,
        retry_after: None,
        connection: Connection::Kept,
        scene: Scene::Usual,
        before: Vec::new(),
        request,
    };
    let token = |caller: Caller| Row {
        challenge: Some(r#"Bearer error="invalid_token""#),
        ..row(401, "Unauthorized", collect(&bearer(&caller), WORKSTATION, COMMENT))
    };
    let credentials = |headers: &str, query: &str| Row {
        challenge: Some(r#"Bearer error="invalid_request""#),
        ..row(400, "BadRequest", get(&format!("/api/machines{query}"), headers))
    };
    let unavailable = |scene, request| Row { scene, ..row(503, "ServiceUnavailable", request) };
    vec![match reason {
        R::MalformedRequest => {
            let request = get("/api//machines", "");
            Row { connection: Connection::Closed, ..row(400, "BadRequest", request) }
        }
        R::HeaderTooLarge => {
            let request = get("/api/machines", &format!("X-Large: {}\r\n", "a".repeat(33 * 1024)));
            Row { connection: Connection::Closed, ..row(431, "BadRequest", request) }
        }
        R::TwoTokens => credentials("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n", ""),
        R::BadAuthorization => credentials("Authorization: Bearer\r\n", ""),
        R::TokenInQuery => credentials("", "?access_token=a"),
        R::NoOperation => row(404, "NotFound", get("/api/nothing", "")),
        R::NoToken => {
            let bare = |headers| Row {
                challenge: Some("Bearer"),
                ..row(401, "Unauthorized", get("/api/machines", headers))
            };
            return vec![bare(""), bare("Authorization: Basic dXNlcjpwYXNz\r\n")];
        }
        R::BadToken => {
            let mut forged = bearer(&playbooks());
            let last = if forged.ends_with('A') { 'Q' } else { 'A' };
            forged.pop();
            forged.push(last);
            Row { request: collect(&forged, WORKSTATION, COMMENT), ..token(playbooks()) }
        }
        // The beginning of manual time, less an hour.
        R::Expired => token(playbooks().claim("exp", 1_795_510_000)),
        R::NotYetValid => token(playbooks().claim("nbf", 1_795_517_200)),
        R::WrongAudience => token(playbooks().for_audience("https://graph.microsoft.com")),
        R::WrongIssuer => token(playbooks().in_tenant(TenantId::from_u128(0xbad))),
        R::MissingPermission => {
            let poor = Caller::application(PLAYBOOKS).permissions(["Machine.Read.All"]);
            let other = Caller::application(PORTAL).permissions(["Ti.ReadWrite.All"]);
            return vec![
                Row {
                    challenge: Some(r#"Bearer error="insufficient_scope", scope="Machine.CollectForensics""#),
                    ..row(403, "Forbidden", collect(&bearer(&poor), WORKSTATION, COMMENT))
                },
                Row {
                    challenge: Some(
                        r#"Bearer error="insufficient_scope", scope="Machine.Read.All Machine.ReadWrite.All""#,
                    ),
                    ..row(403, "Forbidden", authorized(&other, &format!("/api/machines/{WORKSTATION}")))
                },
            ];
        }
        R::MissingRole => {
            let user = Caller::user(UserId::from_u128(0xb2), "nobody@test.example", PORTAL);
            let user = bearer(&user.permissions(["Machine.CollectForensics"]));
            row(403, "Forbidden", collect(&user, WORKSTATION, COMMENT))
        }
        R::GroupOverage => {
            row(403, "Forbidden", collect(&bearer(&responder().group_overage()), WORKSTATION, COMMENT))
        }
        R::Application => {
            row(403, "Forbidden", authorized(&playbooks(), &format!("/api/machines/{WORKSTATION}")))
        }
        R::DeviceGroup => row(403, "Forbidden", collect(&bearer(&playbooks()), EXECUTIVE, COMMENT)),
        R::UnscopedOperation => row(403, "Forbidden", authorized(&playbooks(), "/api/machines")),
        R::UnknownAction => {
            row(403, "Forbidden", authorized(&playbooks(), "/api/machineactions/1/getPackageUri"))
        }
        R::UnknownDevice => {
            let request = collect(&bearer(&playbooks()), &"4".repeat(40), COMMENT);
            row(404, "ResourceNotFound", request)
        }
        R::StaleInventory => {
            Row { retry_after: Some("60"), ..unavailable(Scene::InventoryStale, collects()) }
        }
        R::WrongType => {
            let request = |headers| {
                let headers = format!("Authorization: {}\r\n{headers}", bearer(&playbooks()));
                post(&collection(WORKSTATION), &headers, COMMENT)
            };
            let row = |headers| row(415, "InvalidRequestBody", request(headers));
            return vec![
                row("Content-Type: text/plain\r\n"),
                row("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"),
            ];
        }
        R::BadBody => row(400, "InvalidRequestBody", collect(&bearer(&playbooks()), WORKSTATION, "[1]")),
        R::MissingParameter => {
            row(400, "MissingRequiredParameter", collect(&bearer(&playbooks()), WORKSTATION, "{}"))
        }
        R::BodyTooLarge => {
            let body = format!(r#"{{"Comment":"{}"}}"#, "a".repeat(2_048));
            let request = collect(&bearer(&playbooks()), WORKSTATION, &body);
            let scene = Scene::Policy("operations.toml", small_bodies());
            Row { scene, ..row(413, "RequestBodyTooLarge", request) }
        }
        R::OverLimit => {
            let request = authorized(&portal(), "/api/machineactions/1/getPackageUri");
            Row {
                retry_after: Some("60"),
                before: vec![request.clone(), request.clone()],
                ..row(429, "TooManyRequests", request)
            }
        }
        R::FailedLogins => Row {
            retry_after: Some("60"),
            scene: Scene::FailedLogin,
            ..row(429, "TooManyRequests", collects())
        },
        R::KeysUnavailable => {
            Row { retry_after: Some("30"), ..unavailable(Scene::IssuerOutOfReach, collects()) }
        }
        R::KeysFull => Row {
            retry_after: Some("10"),
            before: vec![collects()],
            ..unavailable(
                Scene::Policy("limits.toml", "max_keys = 1".into()),
                collect(&bearer(&portal()), WORKSTATION, COMMENT),
            )
        },
        // It takes a disk that takes nothing: `commands` has it.
        R::StoreUnavailable => return Vec::new(),
        // It takes a call that is still on its way, or one that the API has turned away, an action (`shares` has that), or a
        // process that stops.
        R::InFlight | R::OpenActions | R::UpstreamLimited | R::ShuttingDown => return Vec::new(),
        // The next request on the connection would be one too many as well: `door` has it.
        R::Overload => return Vec::new(),
        R::CircuitOpen => Row { retry_after: Some("5"), ..unavailable(Scene::UpstreamFailing, collects()) },
        R::AuditUnavailable => Row { retry_after: Some("1"), ..unavailable(Scene::AuditFull, long_line()) },
        R::UpstreamUnavailable => {
            let row = |scene| Row {
                retry_after: Some("5"),
                connection: Connection::Closed,
                scene,
                ..row(502, "BadGateway", collects())
            };
            return vec![row(Scene::UpstreamDown), row(Scene::UpstreamHangsUp)];
        }
        R::UpstreamUnreadable => Row {
            retry_after: Some("5"),
            connection: Connection::Closed,
            scene: Scene::UpstreamEncodes,
            ..row(502, "BadGateway", authorized(&portal(), "/api/machines"))
        },
        R::UpstreamTimeout => Row {
            connection: Connection::Closed,
            scene: Scene::UpstreamSilent,
            ..row(504, "GatewayTimeout", collects())
        },
        // Nobody is left to read an answer.
        R::ClientGone => return Vec::new(),
        // It would take a mistake of ours.
        R::Internal => return Vec::new(),
    }]
}

// === impl Row ===

impl Row {
    async fn check(self) {
        let name = format!("{}: {}", self.reason, self.status);
        let (upstream, gateway) = self.scene.start().await;
        let mut client = gateway.connect().await;
        for request in &self.before {
            client.send(request).await;
            client.read_response().await.assert_status(201);
        }
        let passed = upstream.requests().len();
        client.send(&self.request).await;
        let answer = client.read_response().await;

        assert_eq!(answer.status, self.status, "{name}, got {}", answer.text());
        assert_eq!(answer.header("Tollgate-Reason"), Some(self.reason.as_str()), "{name}");
        assert_eq!(answer.header("WWW-Authenticate"), self.challenge, "{name}");
        assert_eq!(answer.header("Retry-After"), self.retry_after, "{name}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{name}");
        assert_shape(&name, &answer, self.code);
        match self.connection {
            Connection::Kept => {
                let next = client.request("GET", "/api/next", &[], "").await;
                assert_eq!(next.header("Tollgate-Reason"), Some("no_operation"), "{name}");
            }
            Connection::Closed => {
                assert_eq!(answer.header("Connection"), Some("close"), "{name}");
                client.expect_close().await;
            }
        }
        let forwarded = usize::from(self.scene.forwards());
        assert_eq!(upstream.requests().len(), passed + forwarded, "{name}");
    }
}

/// The API's own error, compact, and nothing beside it.
fn assert_shape(name: &str, answer: &RawResponse, code: &str) {
    let error = answer.json()["error"].clone();
    let (message, target) = (text(&error["message"]), text(&error["target"]));
    let (message_json, target_json) = (json!(message), json!(target));
    let expected =
        format!(r#"{{"error":{{"code":"{code}","message":{message_json},"target":{target_json}}}}}"#);
    assert_eq!(answer.text(), expected, "{name}");
    assert!(message.starts_with(char::is_uppercase), "{name}: {message}");
    let digits = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = target.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{name}: {target}");
    assert!(parts.into_iter().all(digits), "{name}: {target}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, got {value}"))
}

/// The operations, but no collection takes more than 1 KiB.
fn small_bodies() -> String {
    let operations = include_str!("support/policy/operations.toml");
    operations.replacen(
        "limits ",
        "max_body = \"1 KiB\"
limits ",
        1,
    )
}

// === requests ===

fn get(target: &str, headers: &str) -> Request {
    format!("GET {target} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n").into()
}

fn authorized(caller: &Caller, target: &str) -> Request {
    get(target, &format!("Authorization: {}\r\n", bearer(caller)))
}

fn post(target: &str, headers: &str, body: &str) -> Request {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: gateway\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into()
}

fn collection(device: &str) -> String {
    format!("/api/machines/{device}/collectInvestigationPackage")
}

fn collect(authorization: &str, device: &str, body: &str) -> Request {
    let headers = format!("Authorization: {authorization}\r\nContent-Type: application/json\r\n");
    post(&collection(device), &headers, body)
}

/// A call whose audit line is as long as a line can be: each character of the comment takes six there.
fn long_line() -> Request {
    let headers = format!("Authorization: {}\r\nContent-Type: application/json\r\n", bearer(&portal()));
    post("/api/indicators/import", &headers, &json!({ "Comment": "\u{1}".repeat(200) }).to_string())
}
