use axum::body::Body;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::id::{DeviceId, EntraDeviceId};
use crate::sandbox::listen::serve;
use crate::time::{ManualClock, Wall};

const IDLE: &str = "00d57148693e15d09719a28eaddaa8babad4771e";
const BUSY: &str = "2222173cb69d2f00f82585213b50b9307d237950";
const USUAL: &str = "02a64c9f58dbd1ee866bbfb1bc9f8ca4674c98d2";
const ENTRA: &str = "7b0c1f2e-0000-0000-0000-000000000001";
const SEEDED: &str = "5a0db0c5-0000-4000-8000-0000000000d1";
const COMMENT: &str = r#"{"Comment":"alert 1234"}"#;

/// A stand-in with three devices, a clock that stands still, and two tokens.
struct Fixture {
    api: Arc<Api>,
    hand: Arc<ManualClock>,
}

/// An answer, read.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

fn device(id: &str, name: &str, collections: Collections) -> ApiDevice {
    ApiDevice {
        id: id.parse().unwrap(),
        entra_id: (id == USUAL).then(|| ENTRA.parse::<EntraDeviceId>().unwrap()),
        name: name.into(),
        os_platform: "Windows11".into(),
        tags: vec!["VIP".into()],
        group: Some(RbacGroup { id: 103, name: "Workstations".into() }),
        collections,
    }
}

fn settings() -> ApiSettings {
    ApiSettings {
        devices: vec![
            device(IDLE, "ws-0101.contoso.example", Collections::Last(Duration::ZERO)),
            device(BUSY, "ws-0102.contoso.example", Collections::NeverEnd),
            device(USUAL, "WS-0103.contoso.example", Collections::AsSet),
        ],
        actions: vec![SeededAction {
            id: ActionId::parse(SEEDED).unwrap(),
            device: IDLE.parse::<DeviceId>().unwrap(),
            requestor: "someone".into(),
            comment: "before".into(),
        }],
        keep_seen: 2,
        ..ApiSettings::default()
    }
}

fn fixture(settings: ApiSettings) -> Fixture {
    let (clock, hand) = Clock::manual(Wall::from_unix_seconds(1_767_225_600));
    Fixture { api: Api::new(settings, clock), hand }
}

/// A token that nobody signed: the stand-in does not look.
fn token(claims: &Value) -> String {
    use base64::Engine;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{claims}.AA")
}

fn application(number: u128) -> String {
    let [tid, appid] = [1, number].map(|number| crate::id::TenantId::from_u128(number).to_string());
    token(&json!({ "tid": tid, "appid": appid }))
}

impl Fixture {
    async fn send(&self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(target)
            .header("Host", "api.example")
            .header("Authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.api.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("Retry-After").map(|v| v.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, retry_after, body: serde_json::from_slice(&body).unwrap() }
    }

    async fn get(&self, target: &str) -> Answer {
        self.send(&application(7), "GET", target, "").await
    }

    async fn collect(&self, device: &str) -> Answer {
        let target = format!("/api/machines/{device}/collectInvestigationPackage");
        self.send(&application(7), "POST", &target, COMMENT).await
    }
}

impl Answer {
    /// Status and code of an error, having checked its shape.
    fn error(&self) -> (u16, &str) {
        let error = self.body["error"].as_object().unwrap();
        assert_eq!(error.len(), 3, "{error:?}");
        assert!(error["message"].is_string());
        assert!(error["target"].as_str().unwrap().parse::<crate::id::RequestId>().is_ok());
        (self.status, error["code"].as_str().unwrap())
    }
}

#[tokio::test]
async fn a_collection_is_answered_with_the_whole_machine_action() {
    let fixture = fixture(settings());
    let answer = fixture.collect(USUAL).await;
    assert_eq!(answer.status, 201);
    let mut body = answer.body;
    assert!(body["id"].as_str().unwrap().parse::<crate::id::RequestId>().is_ok());
    body["id"] = json!("an id");
    assert_eq!(
        body,
        json!({
            "@odata.context": "https://api.securitycenter.microsoft.com/api/$metadata#MachineActions/$entity",
            "id": "an id",
            "type": "CollectInvestigationPackage",
            "title": null,
            "scope": null,
            "requestor": "00000000-0000-0000-0000-000000000007",
            "requestSource": "00000000-0000-0000-0000-000000000007",
            "externalID": null,
            "requestorComment": "alert 1234",
            "cancellationRequestor": null,
            "cancellationComment": null,
            "status": "Pending",
            "machineId": USUAL,
            "computerDnsName": "WS-0103.contoso.example",
            "creationDateTimeUtc": "2026-01-01T00:00:00.000Z",
            "cancellationDateTimeUtc": null,
            "lastUpdateDateTimeUtc": "2026-01-01T00:00:00.000Z",
            "errorHResult": 0,
            "commands": [],
            "relatedFileInfo": null,
        })
    );
}

#[tokio::test]
async fn a_user_is_named_in_the_action_by_its_user_principal_name() {
    let fixture = fixture(settings());
    let zero = "00000000-0000-0000-0000-000000000000";
    let v1 = json!({ "tid": zero, "appid": zero, "upn": "one@contoso.example" });
    let v2 = json!({ "tid": zero, "azp": zero, "preferred_username": "two@contoso.example" });
    for (claims, name) in [(v1, "one@contoso.example"), (v2, "two@contoso.example")] {
        let target = format!("/api/machines/{IDLE}/collectInvestigationPackage");
        let answer = fixture.send(&token(&claims), "POST", &target, COMMENT).await;
        assert_eq!((answer.status, &answer.body["requestor"]), (201, &json!(name)));
    }
}

#[tokio::test]
async fn a_device_is_found_by_each_of_its_names_in_either_case() {
    let fixture = fixture(settings());
    for name in [USUAL, &USUAL.to_uppercase(), "ws-0103.CONTOSO.example", ENTRA, "ws-0103%2Econtoso.example"]
    {
        let answer = fixture.get(&format!("/api/machines/{name}")).await;
        assert_eq!((answer.status, &answer.body["id"]), (200, &json!(USUAL)), "{name}");
    }
    let answer = fixture.collect("WS-0999").await;
    assert_eq!(answer.error(), (404, "ResourceNotFound"));
    assert_eq!(answer.body["error"]["message"], "Machine WS-0999 was not found");
}

#[tokio::test]
async fn a_second_collection_is_refused_until_the_first_has_ended() {
    let fixture = fixture(settings());
    assert_eq!(fixture.collect(USUAL).await.status, 201);
    fixture.hand.advance(Duration::from_millis(29_999));
    let refused = fixture.collect(USUAL).await;
    assert_eq!(refused.error(), (400, "ActiveRequestAlreadyExists"));
    assert_eq!(refused.body["error"]["message"], "Action is already in progress");
    fixture.hand.advance(Duration::from_millis(1));
    assert_eq!(fixture.collect(USUAL).await.status, 201);
}

#[tokio::test]
async fn one_device_never_rests_and_one_is_always_free() {
    let fixture = fixture(settings());
    assert_eq!(fixture.collect(BUSY).await.error(), (400, "ActiveRequestAlreadyExists"));
    fixture.hand.advance(Duration::from_secs(365 * 86_400));
    assert_eq!(fixture.collect(BUSY).await.error(), (400, "ActiveRequestAlreadyExists"));
    for _ in 0..3 {
        assert_eq!(fixture.collect(IDLE).await.status, 201);
    }
}

#[tokio::test]
async fn a_package_has_an_address_only_when_it_is_complete() {
    let fixture = fixture(settings());
    let started = fixture.collect(USUAL).await;
    let action = format!("/api/machineactions/{}", started.body["id"].as_str().unwrap());
    let package = format!("{action}/getPackageUri");
    assert_eq!(fixture.get(&action).await.body["status"], "InProgress");
    assert_eq!(fixture.get(&package).await.error(), (404, "ResourceNotFound"));

    fixture.hand.advance(Duration::from_secs(30));
    let done = fixture.get(&action).await;
    assert_eq!(done.body["status"], "Succeeded");
    assert_eq!(done.body["lastUpdateDateTimeUtc"], "2026-01-01T00:00:30.000Z");
    let address = fixture.get(&package).await;
    assert_eq!(address.status, 200);
    let value = address.body["value"].as_str().unwrap();
    assert!(value.starts_with("\"https://") && value.ends_with('"'), "{value}");

    fixture.hand.advance(Duration::from_secs(60));
    assert_eq!(fixture.get(&format!("/api/machineactions/{SEEDED}/getPackageUri")).await.status, 200);
    let unknown = "/api/machineactions/00000000-0000-0000-0000-000000000000";
    assert_eq!(fixture.get(unknown).await.error(), (404, "ResourceNotFound"));
    assert_eq!(fixture.get(&format!("{unknown}/getPackageUri")).await.error(), (404, "ResourceNotFound"));
}

#[tokio::test]
async fn the_body_must_be_an_object_with_a_comment_spelt_so() {
    let fixture = fixture(settings());
    let target = format!("/api/machines/{IDLE}/collectInvestigationPackage");
    for (body, code) in [
        ("", "InvalidRequestBody"),
        ("[]", "InvalidRequestBody"),
        ("{\"Comment\":", "InvalidRequestBody"),
        (r#"{"Comment":7}"#, "InvalidRequestBody"),
        ("{}", "MissingRequiredParameter"),
        (r#"{"comment":"x"}"#, "MissingRequiredParameter"),
        (r#"{"Comment":""}"#, "MissingRequiredParameter"),
        (r#"{"Comment":null}"#, "MissingRequiredParameter"),
    ] {
        let answer = fixture.send(&application(7), "POST", &target, body).await;
        assert_eq!(answer.error(), (400, code), "{body}");
    }
    let large = format!(r#"{{"Comment":"{}"}}"#, "x".repeat(MAX_BODY_BYTES));
    let answer = fixture.send(&application(7), "POST", &target, &large).await;
    assert_eq!(answer.error(), (413, "RequestBodyTooLarge"));
}

#[tokio::test]
async fn whoever_shows_no_token_is_unauthorized() {
    let fixture = fixture(settings());
    let claims = token(&json!({ "tid": "x", "appid": "y" }));
    for token in ["", "a.b", "a.!.c", "e30.e30.AA", &claims, &format!("{}.AA", application(7))] {
        let answer = fixture.send(token, "GET", "/api/machines", "").await;
        assert_eq!(answer.error(), (401, "Unauthorized"), "{token}");
    }
    let request = http::Request::get("/api/machines").body(Body::empty()).unwrap();
    assert_eq!(fixture.api.router().oneshot(request).await.unwrap().status(), 401);
}

#[tokio::test]
async fn paths_have_a_version_or_none_and_any_case() {
    let fixture = fixture(settings());
    for path in ["/api/machines", "/API/Machines", "/api/v1.0/machines", "/Api/V1.0/MachineActions"] {
        assert_eq!(fixture.get(path).await.status, 200, "{path}");
    }
    let upper = format!("/API/V1.0/MACHINES/{}/COLLECTINVESTIGATIONPACKAGE", IDLE.to_uppercase());
    assert_eq!(fixture.send(&application(7), "POST", &upper, COMMENT).await.status, 201);
    for path in ["/", "/api", "/api/machines/", "/api/v2.0/machines", "/api/alerts"] {
        assert_eq!(fixture.get(path).await.error(), (404, "NotFound"), "{path}");
    }
    assert_eq!(fixture.send(&application(7), "DELETE", "/api/machines", "").await.error(), (404, "NotFound"));
}

#[tokio::test]
async fn a_list_is_cut_as_the_client_asks() {
    let fixture = fixture(settings());
    let all = fixture.get("/api/machines").await.body;
    assert_eq!(all["@odata.context"], "https://api.securitycenter.microsoft.com/api/$metadata#Machines");
    assert_eq!(all["value"].as_array().unwrap().len(), 3);
    let one = fixture.get("/api/machines?%24top=1&$skip=1").await.body;
    assert_eq!((one["value"].as_array().unwrap().len(), &one["value"][0]["id"]), (1, &json!(BUSY)));
    assert_eq!(one.get("@odata.nextLink"), None);
    let machine = &all["value"][0];
    assert_eq!(machine["rbacGroupName"], "Workstations");
    assert_eq!(machine["machineTags"], json!(["VIP"]));
    for query in ["$top=x", "$top=10001", "$filter=id", "$skip"] {
        assert_eq!(fixture.get(&format!("/api/machines?{query}")).await.error(), (400, "ODataError"));
    }
    // One seeded, one that never ends, and the newest first.
    let newest = fixture.collect(USUAL).await.body["id"].clone();
    let actions = fixture.get("/api/machineactions").await.body;
    assert_eq!(actions["value"].as_array().unwrap().len(), 3);
    assert_eq!(actions["value"][0]["id"], newest);
}

#[tokio::test]
async fn a_list_that_the_service_cuts_says_where_the_rest_is() {
    let devices = (0..=Page::MAX_TOP)
        .map(|number| device(&format!("{number:040x}"), &format!("ws-{number}"), Collections::AsSet))
        .collect();
    let fixture = fixture(ApiSettings { devices, ..ApiSettings::default() });
    let first = fixture.get("/api/machines").await.body;
    assert_eq!(first["value"].as_array().unwrap().len(), Page::MAX_TOP);
    let next = first["@odata.nextLink"].as_str().unwrap();
    assert_eq!(next, "http://api.example/api/machines?$skip=10000");
    let rest = fixture.get(next.strip_prefix("http://api.example").unwrap()).await.body;
    assert_eq!(rest["value"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("@odata.nextLink"), None);
    let last = fixture.get("/api/machines?$skip=1").await.body;
    assert_eq!(last.get("@odata.nextLink"), None, "nothing is left");
}

#[tokio::test]
async fn the_service_counts_by_application_and_call_and_says_when_to_come_back() {
    let fixture = fixture(settings());
    // 15.5 seconds into a minute of the clock, which began with 1 ms.
    fixture.hand.advance(Duration::from_millis(15_499));
    let package = format!("/api/machineactions/{SEEDED}/getPackageUri");
    for expected in [200, 200, 429, 429] {
        assert_eq!(fixture.get(&package).await.status, expected);
    }
    let refused = fixture.get(&package).await;
    assert_eq!(refused.error(), (429, "429"));
    assert_eq!(refused.retry_after.as_deref(), Some("45"));
    assert_eq!(refused.body["error"]["message"], "API calls quota exceeded! maximum allowed 2 per 00:01:00");
    assert_eq!(fixture.get("/api/machines").await.status, 200, "another call");
    assert_eq!(fixture.send(&application(8), "GET", &package, "").await.status, 200, "another application");

    fixture.hand.advance(Duration::from_secs(45));
    assert_eq!(fixture.get(&package).await.status, 200, "the next minute, with nothing counted for refusals");
}

#[tokio::test]
async fn the_hour_binds_after_the_minutes() {
    let fixture = fixture(settings());
    for minute in 0..15 {
        for _ in 0..100 {
            assert_eq!(fixture.get("/api/machineactions").await.status, 200, "minute {minute}");
        }
        fixture.hand.advance(Duration::from_secs(60));
    }
    let refused = fixture.get("/api/machineactions").await;
    assert_eq!(refused.error(), (429, "429"));
    assert_eq!(refused.retry_after.as_deref(), Some("2700"));
    assert!(refused.body["error"]["message"].as_str().unwrap().ends_with("allowed 1500 per 01:00:00"));
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let fixture = fixture(ApiSettings { limits: ApiLimits::Off, ..settings() });
    for _ in 0..200 {
        assert_eq!(fixture.collect(IDLE).await.status, 201);
    }
}

#[tokio::test]
async fn ten_thousand_actions_are_kept_and_the_running_one_outlives_the_finished() {
    let fixture = fixture(ApiSettings {
        limits: ApiLimits::Off,
        running_for: Duration::from_secs(3_600),
        ..settings()
    });
    let running = fixture.collect(USUAL).await.body["id"].as_str().unwrap().to_owned();
    for _ in 0..ActionLog::MAX_ACTIONS + 10 {
        assert_eq!(fixture.collect(IDLE).await.status, 201);
    }
    assert_eq!(fixture.api.actions.lock().len(), ActionLog::MAX_ACTIONS);
    assert_eq!(fixture.get(&format!("/api/machineactions/{running}")).await.body["status"], "InProgress");
    assert_eq!(fixture.get(&format!("/api/machineactions/{SEEDED}")).await.status, 404, "forgotten");
    assert_eq!(fixture.collect(USUAL).await.error(), (400, "ActiveRequestAlreadyExists"));
}

#[tokio::test]
async fn the_last_requests_can_be_looked_at() {
    let fixture = fixture(settings());
    for device in [USUAL, BUSY, IDLE] {
        fixture.collect(device).await;
    }
    let seen = fixture.api.seen();
    assert_eq!((seen.len(), fixture.api.received()), (2, 3));
    assert!(seen[1].target.path().contains(IDLE));
    assert_eq!(seen[1].body, COMMENT.as_bytes());
    assert_eq!(seen[1].headers["host"], "api.example");
}

#[tokio::test]
async fn a_socket_serves_several_requests_of_one_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = fixture(settings());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, fixture.api.router()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for connection in ["keep-alive", "close"] {
        let request = format!("GET /api/machines HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 401 ").count(), 2, "{answers}");
}

mod live_response;
