use std::net::TcpListener;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use tower::ServiceExt;

use super::*;
use crate::id::{ApplicationId, EntraGroupId, UserId};
use crate::sandbox::listen::{LocalTls, serve, serve_tls};
use crate::time::Wall;

const BASE: &str = "https://localhost:9443";
const NOW: i64 = 1_767_225_600;
const TENANT: TenantId = TenantId::from_u128(0x5a0d);
const APPLICATION: ApplicationId = ApplicationId::from_u128(0xa1);
const SECRET: &str = "s3cret+ &";
const SCOPE: &str = "https://api.securitycenter.microsoft.com/.default";

fn application() -> Caller {
    Caller::application(APPLICATION).permissions(["Machine.CollectForensics"])
}

fn user() -> Caller {
    Caller::user(UserId::from_u128(7), "analyst@contoso.example", APPLICATION)
        .permissions(["Machine.Read", "Machine.CollectForensics"])
        .groups([EntraGroupId::from_u128(9)])
}

fn issuer() -> Arc<Issuer> {
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let registration = Registration { caller: application(), secret: SECRET.into() };
    Issuer::new(BASE, TENANT, vec![registration], clock).unwrap()
}

async fn send(issuer: &Arc<Issuer>, request: http::Request<Body>) -> (u16, Value) {
    let response = issuer.router("http://127.0.0.1:9080").oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn get(issuer: &Arc<Issuer>, path: &str) -> (u16, Value) {
    send(issuer, http::Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(issuer: &Arc<Issuer>, authorization: Option<&str>, form: &str) -> (u16, Value) {
    let mut request = http::Request::post(format!("/{TENANT}/oauth2/v2.0/token"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    if let Some(value) = authorization {
        request = request.header("Authorization", value);
    }
    send(issuer, request.body(Body::from(form.to_owned())).unwrap()).await
}

fn verify(token: &str, keys: Value) -> Value {
    let keys: JwkSet = serde_json::from_value(keys).unwrap();
    let key = keys.find(&decode_header(token).unwrap().kid.unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

#[tokio::test]
async fn a_token_is_verified_by_way_of_discovery_and_keys() {
    let issuer = issuer();
    for (version, document, keys) in [
        (TokenVersion::V1, ".well-known/openid-configuration", "discovery/keys"),
        (TokenVersion::V2, "v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"),
    ] {
        let (status, document) = get(&issuer, &format!("/{TENANT}/{document}")).await;
        assert_eq!(status, 200);
        let at = format!("http://127.0.0.1:9080/{TENANT}");
        assert_eq!(document["jwks_uri"], format!("{at}/{keys}"));
        assert_eq!(document["token_endpoint"], format!("{at}/oauth2/v2.0/token"));

        let (status, keys) = get(&issuer, &format!("/{TENANT}/{keys}")).await;
        assert_eq!(status, 200);
        let claims = verify(&issuer.token(&application().of_version(version)), keys.clone());
        assert_eq!(claims["iss"], document["issuer"]);
        let template = keys["keys"][0]["issuer"].as_str().unwrap();
        assert_eq!(claims["iss"], template.replace("{tenantid}", &TENANT.to_string()));
    }
    assert_eq!(issuer.issuer_of(TENANT, TokenVersion::V1), format!("{BASE}/{TENANT}/"));
    assert_eq!(issuer.issuer_of(TENANT, TokenVersion::V2), format!("{BASE}/{TENANT}/v2.0"));
    let stranger = TenantId::from_u128(1);
    assert_eq!(get(&issuer, &format!("/{stranger}/discovery/keys")).await.1["error"], "invalid_request");
}

#[tokio::test]
async fn an_application_and_a_user_have_the_claims_of_their_kind() {
    let issuer = issuer();
    let v1 = issuer.claims(&application());
    assert_eq!(v1["ver"], "1.0");
    assert_eq!(v1["appid"], APPLICATION.to_string());
    assert_eq!(v1["aud"], "https://api.securitycenter.microsoft.com");
    assert_eq!(v1["roles"], json!(["Machine.CollectForensics"]));
    assert_eq!((&v1["iat"], &v1["nbf"], &v1["exp"]), (&json!(NOW), &json!(NOW), &json!(NOW + 3_599)));
    for absent in ["scp", "azp", "groups", "upn", "idtyp"] {
        assert_eq!(v1.get(absent), None, "{absent}");
    }

    let v2 = issuer.claims(&user().of_version(TokenVersion::V2));
    assert_eq!(v2["ver"], "2.0");
    assert_eq!(v2["azp"], APPLICATION.to_string());
    assert_eq!(v2["aud"], "fc780465-2017-40d4-a0c5-307022471b92");
    assert_eq!(v2["scp"], "Machine.Read Machine.CollectForensics");
    assert_eq!(v2["preferred_username"], "analyst@contoso.example");
    assert_eq!(v2["groups"], json!([EntraGroupId::from_u128(9).to_string()]));
    for absent in ["roles", "appid", "upn"] {
        assert_eq!(v2.get(absent), None, "{absent}");
    }
    assert_eq!(issuer.claims(&user())["upn"], "analyst@contoso.example");
}

#[tokio::test]
async fn a_token_says_what_its_caller_was_built_to_say() {
    let issuer = issuer();
    let tenant = TenantId::from_u128(3);
    let caller = user()
        .group_overage()
        .in_tenant(tenant)
        .valid_for(Duration::from_secs(60))
        .for_audience("https://graph.microsoft.com")
        .claim("idtyp", "user")
        .claim("uti", Value::Null);
    let claims = verify(&issuer.token(&caller), issuer.key_set(TokenVersion::V1));
    assert_eq!(claims["_claim_names"], json!({ "groups": "src1" }));
    assert_eq!(claims["tid"], tenant.to_string());
    assert_eq!(claims["iss"], format!("{BASE}/{tenant}/"));
    assert_eq!(claims["exp"], NOW + 60);
    assert_eq!(claims["aud"], "https://graph.microsoft.com");
    assert_eq!(claims["idtyp"], "user");
    assert_eq!((claims.get("uti"), claims.get("groups")), (None, None));
    assert_ne!(issuer.claims(&user())["uti"], issuer.claims(&user())["uti"]);
}

#[tokio::test]
async fn client_credentials_get_a_v1_token_by_form_or_by_basic() {
    let issuer = issuer();
    let form = format!(
        "grant_type=client_credentials&client_id={APPLICATION}&client_secret=s3cret%2B+%26&scope={SCOPE}&client_info=1"
    );
    // The members are form-encoded before they are put into the header.
    let basic = {
        use base64::Engine;
        let pair = format!("{APPLICATION}:s3cret%2B+%26");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let bare = format!("grant_type=client_credentials&scope={SCOPE}");
    for (status, body) in [post(&issuer, None, &form).await, post(&issuer, Some(&basic), &bare).await] {
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!((&body["expires_in"], &body["ext_expires_in"]), (&json!(3_599), &json!(3_599)));
        let claims = verify(body["access_token"].as_str().unwrap(), issuer.key_set(TokenVersion::V1));
        assert_eq!(claims["ver"], "1.0");
        assert_eq!(claims["aud"], "https://api.securitycenter.microsoft.com");
        assert_eq!(claims["roles"], json!(["Machine.CollectForensics"]));
    }
}

#[tokio::test]
async fn a_token_request_that_is_wrong_is_refused_in_the_words_of_oauth() {
    let issuer = issuer();
    let id = APPLICATION.to_string();
    let unknown = ApplicationId::from_u128(1).to_string();
    let secret = "s3cret%2B+%26";
    let form = |grant: &str, id: &str, secret: &str, scope: &str| {
        format!("grant_type={grant}&client_id={id}&client_secret={secret}&scope={scope}")
    };
    let twice = format!("{}&scope=x", form("client_credentials", &id, secret, SCOPE));
    for (form, status, error) in [
        (form("client_credentials", &id, "wrong", SCOPE), 401, "invalid_client"),
        (form("client_credentials", &unknown, secret, SCOPE), 400, "unauthorized_client"),
        (form("password", &id, secret, SCOPE), 400, "unsupported_grant_type"),
        (form("client_credentials", &id, secret, "Machine.Read"), 400, "invalid_scope"),
        (
            form("client_credentials", &id, secret, "https://graph.microsoft.com/.default"),
            400,
            "invalid_scope",
        ),
        (String::new(), 400, "invalid_request"),
        ("grant_type=client_credentials".into(), 400, "invalid_request"),
        (format!("grant_type=client_credentials&client_id={id}"), 401, "invalid_client"),
        (
            format!("grant_type=client_credentials&client_id={id}&client_secret={secret}"),
            400,
            "invalid_request",
        ),
        (twice, 400, "invalid_request"),
    ] {
        let (got, body) = post(&issuer, None, &form).await;
        assert_eq!((got, &body["error"]), (status, &json!(error)), "{form}");
        assert!(body["error_description"].as_str().unwrap().starts_with("AADSTS"), "{body}");
    }
    let (status, body) = post(&issuer, Some("Basic !"), "grant_type=client_credentials").await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")));
    let (_, body) = post(&issuer, Some("Basic YTpi"), &form("client_credentials", &id, secret, SCOPE)).await;
    assert_eq!(body["error"], "invalid_request", "credentials given twice");
}

#[tokio::test]
async fn over_https_a_client_that_trusts_the_ca_finds_the_issuer_it_asked_for() {
    let (https, http) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let base = format!("https://localhost:{}", https.local_addr().unwrap().port());
    let plain = format!("http://{}", http.local_addr().unwrap());
    let registration = Registration { caller: application(), secret: SECRET.into() };
    let issuer = Issuer::new(&base, TENANT, vec![registration], Clock::System).unwrap();
    let tls = LocalTls::generate().unwrap();
    tokio::spawn({
        let (router, tls) = (issuer.router(&base), tls.clone());
        async move { serve_tls(https, router, &tls).await }
    });
    tokio::spawn(serve(http, issuer.router(&plain)));

    let ca = reqwest::Certificate::from_pem(tls.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let path = format!("{TENANT}/v2.0/.well-known/openid-configuration");
    let read = async |url: String| -> Value {
        let text = client.get(url).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let document = read(format!("{base}/{path}")).await;
    assert_eq!(document["issuer"], format!("{base}/{TENANT}/v2.0"));
    let token_endpoint = document["token_endpoint"].as_str().unwrap();
    assert!(token_endpoint.starts_with(&base));
    let answer = client
        .post(token_endpoint)
        .basic_auth(APPLICATION, Some("s3cret%2B+%26"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("grant_type=client_credentials&scope={SCOPE}"))
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let keys = read(document["jwks_uri"].as_str().unwrap().to_owned()).await;
    verify(answer["access_token"].as_str().unwrap(), keys);

    let over_http = read(format!("{plain}/{path}")).await;
    assert_eq!(over_http["issuer"], document["issuer"], "one issuer at both addresses");
    assert!(over_http["jwks_uri"].as_str().unwrap().starts_with(&plain));

    let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(stranger.get(format!("{base}/{path}")).send().await.is_err(), "the CA is not trusted by itself");
}
