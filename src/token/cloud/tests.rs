use serde_json::json;

use super::*;
use crate::token::error::{Flaw, TokenError};
use crate::token::forge::*;
use crate::token::refresh_now;
use crate::token::site::*;

const PRESET: &str =
    "[[issuer]]\ncloud = \"commercial\"\ntenants = [\"11111111-1111-4111-8111-111111111111\"]\n";

#[test]
fn a_preset_needs_a_cloud_and_its_tenants_and_nothing_else() {
    for (cloud, login) in [
        ("commercial", "https://login.microsoftonline.com"),
        ("gcc", "https://login.microsoftonline.com"),
        ("gcc-high", "https://login.microsoftonline.us"),
        ("dod", "https://login.microsoftonline.us"),
    ] {
        let toml = format!("[[issuer]]\ncloud = \"{cloud}\"\ntenants = [\"{TENANT}\", \"{OTHER_TENANT}\"]\n");
        let verifier = verifier(&files(&toml, &[]), None);
        let states: Vec<_> = verifier.issuers(&clock().0).collect();
        assert!(states.iter().all(|state| &*state.name == cloud), "{states:?}");
        let sources: Vec<_> = states.iter().map(|state| state.source.to_string()).collect();
        let expected = [TENANT, OTHER_TENANT].map(|tenant| {
            ["", "/v2.0"].map(|version| format!("{login}/{tenant}{version}/.well-known/openid-configuration"))
        });
        assert_eq!(sources, expected.concat(), "{cloud}");
    }
}

#[test]
fn a_preset_may_have_a_name_audiences_and_limits_of_its_own() {
    let more = "name = \"contoso\"\naudiences = [\"x\"]\ntyp = \"JWT\"\nalgorithms = [\"RS256\"]\nkeep_keys = \"48h\"\n";
    let verifier = verifier(&files(&format!("{PRESET}{more}"), &[]), None);
    assert_eq!(&*verifier.issuers(&clock().0).next().unwrap().name, "contoso");
}

#[test]
fn an_issuers_name_has_the_tenant_in_it_and_a_host_of_entra() {
    let tenant = TENANT.parse().unwrap();
    let login = LoginHost("https://login.microsoftonline.us");
    for issuer in [
        "https://sts.windows.net/{}/",
        "https://login.microsoftonline.us/{}/v2.0",
        "https://sts.microsoftonline.us/{}/",
    ] {
        assert_eq!(login.check_issuer(&issuer.replace("{}", TENANT), tenant), Ok(()), "{issuer}");
    }
    for (issuer, why) in [
        ("https://login.microsoftonline.us.evil.example/{}/", ImplausibleIssuer::Host),
        ("https://login.microsoftonline.com/{}/v2.0", ImplausibleIssuer::Host),
        ("https://evil.windows.net/{}/", ImplausibleIssuer::Host),
        ("https://sts.evil.windows.net/{}/", ImplausibleIssuer::Host),
        ("https://sts.evil.example/{}/", ImplausibleIssuer::Host),
        ("https://windows.net/{}/", ImplausibleIssuer::Host),
        ("http://sts.windows.net/{}/", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net:444/{}/", ImplausibleIssuer::NotPlain),
        ("https://x@sts.windows.net/{}/", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net/{}/?x", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net/{}/#x", ImplausibleIssuer::NotPlain),
        ("https://STS.windows.net/{}/", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net/x/../{}/", ImplausibleIssuer::NotPlain),
        ("sts.windows.net/{}/", ImplausibleIssuer::NotPlain),
        ("", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net/", ImplausibleIssuer::Tenant),
        ("https://sts.windows.net/{tenantid}/", ImplausibleIssuer::NotPlain),
        ("https://sts.windows.net/x{}/", ImplausibleIssuer::Tenant),
        ("https://sts.windows.net/22222222-2222-4222-8222-222222222222/", ImplausibleIssuer::Tenant),
    ] {
        assert_eq!(login.check_issuer(&issuer.replace("{}", TENANT), tenant), Err(why), "{issuer}");
    }
}

#[test]
fn a_mistake_in_a_preset_is_named_at_its_place() {
    let fixed = |iss: &str| {
        format!(
            "\n[[issuer]]\nname = \"x\"\nissuer = \"{iss}\"\ntenants = [\"{TENANT}\"]\naudiences = [\"x\"]\nkeys = \"keys.json\"\n"
        )
    };
    for (more, expected) in [
        (
            "issuer = \"https://x/\"\n".to_owned(),
            "issuers.toml:4:10: `issuer` is not for an issuer with `cloud`",
        ),
        ("discovery = \"https://x/\"\n".to_owned(), "issuers.toml:4:13: `discovery` is not for"),
        ("keys = \"keys.json\"\n".to_owned(), "issuers.toml:4:8: `keys` is not for"),
        ("claims = { appid = \"x\", roles = \"y\" }\n".to_owned(), "issuers.toml:4:10: `claims` is not for"),
        ("audiences = []\n".to_owned(), "issuers.toml:4:13: an issuer names at least one audience"),
        (format!("\n{PRESET}"), "issuers.toml:6:9: issuer `commercial` has an entry already"),
        (
            format!("\n{}name = \"two\"\n", PRESET.replace("commercial", "gcc")),
            "issuers.toml:5:1: the tokens of tenant `11111111-1111-4111-8111-111111111111` belong to an entry above",
        ),
        (fixed("https://sts.windows.net/{tid}/"), "issuers.toml:1:1: the tokens of tenant"),
        (fixed("https://login.microsoftonline.com/{tid}/v2.0"), "issuers.toml:1:1: the tokens of tenant"),
        // Whatever tenant it says: the tokens of this `iss` would have two judges.
        (
            fixed(&format!("https://sts.windows.net/{TENANT}/"))
                .replace(&format!("tenants = [\"{TENANT}\"]"), &format!("tenants = [\"{OTHER_TENANT}\"]")),
            "issuers.toml:1:1: the tokens of tenant",
        ),
    ] {
        let problems = problems(&files(&format!("{PRESET}{more}"), &[SIGNER.jwk("one")]));
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{more}: {problems:?}");
        assert!(problems.len() <= 2, "{problems:?}");
    }
    let elsewhere = format!("{PRESET}{}", fixed("https://id.example/"));
    assert_eq!(problems(&files(&elsewhere, &[SIGNER.jwk("one")])), [""; 0]);
    for cloud in ["china", "Commercial", ""] {
        let problem = &problems(&files(&PRESET.replace("commercial", cloud), &[]))[0];
        let names = "is none of `commercial`, `gcc`, `gcc-high`, `dod`";
        assert_eq!(*problem, format!("issuers.toml:2:9: `{cloud}` {names}"));
    }
}

/// A cloud whose login host is this site, and the documents of its two versions: their issuers are of host `127.0.0.1`.
fn cloud_at(site: &Site) -> &'static [Cloud] {
    for (version, issuer) in [("", format!("https://sts.windows.net/{TENANT}/")), ("/v2.0", v2_issuer())] {
        document(site, version, &issuer);
    }
    // A cloud is a constant everywhere else.
    let login = LoginHost(site.base.clone().leak());
    Box::leak(Box::new([Cloud { name: "commercial", login, audiences: CLOUDS[0].audiences }]))
}

fn v2_issuer() -> String {
    format!("https://127.0.0.1/{TENANT}/v2.0")
}

fn document(site: &Site, version: &str, issuer: &str) {
    let document = json!({"issuer": issuer, "jwks_uri": format!("{}/keys", site.base)}).to_string();
    site.set(&format!("/{TENANT}{version}{CONFIGURATION}"), Answer::Ok(document));
}

fn v1() -> serde_json::Value {
    application()
}

fn v2() -> serde_json::Value {
    let claims = with(user(), "iss", json!(v2_issuer()));
    with(claims, "aud", json!("fc780465-2017-40d4-a0c5-307022471b92"))
}

#[tokio::test]
async fn one_preset_takes_tokens_of_both_versions_by_the_issuers_that_its_documents_name() {
    let site = Site::start();
    let verifier = verifier_in(cloud_at(&site), &files(PRESET, &[]));
    let (clock, _) = clock();
    refresh_now(&verifier, &clock).await;
    for claims in [v1(), v2()] {
        assert_eq!(verify_now(&verifier, &SIGNER.sign(&claims), &clock).await, None, "{claims}");
    }
    for audience in CLOUDS[0].audiences {
        let token = SIGNER.sign(&with(v1(), "aud", json!(audience)));
        assert_eq!(verify_now(&verifier, &token, &clock).await, None, "{audience}");
    }
}

#[tokio::test]
async fn the_version_and_the_issuer_choose_and_nothing_is_tried() {
    let site = Site::start();
    let verifier = verifier_in(cloud_at(&site), &files(PRESET, &[]));
    let (clock, _) = clock();
    refresh_now(&verifier, &clock).await;
    let ver = TokenError::Bad(Flaw::Claim { claim: "ver", problem: "is neither `1.0` nor `2.0`" });
    for (claims, expected) in [
        (with(v1(), "ver", json!("2.0")), TokenError::WrongIssuer),
        (with(v2(), "ver", json!("1.0")), TokenError::WrongIssuer),
        (with(v1(), "ver", serde_json::Value::Null), TokenError::WrongIssuer),
        (with(v1(), "ver", json!("3.0")), ver),
        (with(v1(), "iss", json!(v2_issuer())), TokenError::WrongIssuer),
        (with(v1(), "iss", json!(format!("https://sts.windows.net/{TENANT}"))), TokenError::WrongIssuer),
        (
            with(v1(), "iss", json!(format!("https://sts.windows.net/{OTHER_TENANT}/"))),
            TokenError::WrongIssuer,
        ),
        (with(v1(), "tid", json!(OTHER_TENANT)), TokenError::WrongIssuer),
        (with(v1(), "aud", json!("https://api-gcc.securitycenter.microsoft.us")), TokenError::WrongAudience),
    ] {
        assert_eq!(verify_now(&verifier, &SIGNER.sign(&claims), &clock).await, Some(expected), "{claims}");
    }
}

#[tokio::test]
async fn a_document_with_an_issuer_that_entra_would_not_name_gives_no_keys() {
    let site = Site::start();
    let clouds = cloud_at(&site);
    document(&site, "", &format!("https://evil.example/{TENANT}/"));
    document(&site, "/v2.0", &format!("https://sts.windows.net/{OTHER_TENANT}/v2.0"));
    let verifier = verifier_in(clouds, &files(PRESET, &[]));
    let (clock, _) = clock();
    refresh_now(&verifier, &clock).await;
    let states: Vec<_> = verifier.issuers(&clock).collect();
    let errors: Vec<_> = states.iter().map(|state| (state.keys, state.error.as_deref().unwrap())).collect();
    assert!(
        errors[0].1.ends_with(
            "is refused: its host is neither the login host nor the token service of an Entra domain"
        ),
        "{errors:?}"
    );
    assert!(errors[1].1.ends_with("is refused: its path does not name the tenant"), "{errors:?}");
    assert_eq!((errors[0].0, errors[1].0), (0, 0));
}

#[test]
fn a_rehearsals_issuers_are_called_as_the_login_host_of_their_cloud_calls_them() {
    let keys = json!({ "keys": [SIGNER.jwk("one")] }).to_string();
    for cloud in &CLOUDS {
        let toml = format!("[[issuer]]\ncloud = \"{}\"\ntenants = [\"{TENANT}\"]\n", cloud.name);
        let verifier = std::sync::Arc::into_inner(verifier(&files(&toml, &[]), None)).unwrap();
        let (_, issuers) = verifier.rehearsing(&keys).unwrap();
        let named: Vec<_> = issuers.iter().map(|issuer| (issuer.iss.as_str(), issuer.version)).collect();
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        let v2 = format!("{}/{TENANT}/v2.0", cloud.login.0);
        assert_eq!(named, [(v1.as_str(), Some("1.0")), (v2.as_str(), Some("2.0"))], "{}", cloud.name);
        for iss in [v1, v2] {
            assert_eq!(cloud.login.check_issuer(&iss, TENANT.parse().unwrap()), Ok(()), "{iss}");
        }
    }
}
