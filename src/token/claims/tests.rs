use serde_json::{Value, json};

use super::*;
use crate::token::forge::*;

fn refusal(claims: &Value) -> TokenError {
    verify(&ours(), &SIGNER.sign(claims)).unwrap_err()
}

fn wrong(claim: &'static str) -> impl Fn(TokenError) -> bool {
    move |error| matches!(error, TokenError::Bad(Flaw::Claim { claim: named, .. }) if named == claim)
}

#[test]
fn a_v1_token_with_roles_is_an_application() {
    let principal = verify(&ours(), &SIGNER.sign(&application())).unwrap();
    assert_eq!(principal.subject.tenant, TENANT.parse().unwrap());
    assert_eq!(principal.subject.application, APPLICATION.parse().unwrap());
    assert_eq!(principal.subject.user, None);
    let permissions = vec!["Machine.CollectForensics".into(), "Machine.Isolate".into()];
    assert_eq!(principal.kind, PrincipalKind::Application { permissions });
    assert_eq!(principal.token_id.as_deref(), Some("abc"));
    assert_eq!(principal.expires.unix_seconds(), NOW + 3_600);
}

#[test]
fn a_v2_token_with_scp_is_a_user_and_its_roles_grant_nothing() {
    let claims = with(user(), "roles", json!(["Machine.Isolate"]));
    let principal = verify(&ours(), &SIGNER.sign(&claims)).unwrap();
    assert_eq!(principal.subject.application, APPLICATION.parse().unwrap());
    assert_eq!(principal.subject.user, Some(USER.parse().unwrap()));
    let permissions = vec!["Machine.CollectForensics".into(), "Machine.Read".into()];
    let groups = Groups::Listed(vec![GROUP.parse().unwrap()]);
    assert_eq!(principal.kind, PrincipalKind::User { permissions, groups });
    assert_eq!(principal.token_id, None);
}

#[test]
fn idtyp_must_agree_with_scp() {
    let kinds = [(application(), "app", true), (user(), "user", true), (application(), "user", false)];
    for (claims, idtyp, accepted) in kinds.into_iter().chain([(user(), "app", false)]) {
        let result = verify(&ours(), &SIGNER.sign(&with(claims, "idtyp", json!(idtyp))));
        let expected = if accepted { None } else { Some(TokenError::Bad(Flaw::MixedKinds)) };
        assert_eq!(result.err(), expected, "{idtyp}");
    }
    assert!(wrong("idtyp")(refusal(&with(user(), "idtyp", json!("device")))));
}

#[test]
fn a_token_of_neither_kind_is_refused() {
    for roles in [json!([]), Value::Null] {
        assert_eq!(refusal(&with(application(), "roles", roles)), TokenError::Bad(Flaw::NoKind));
    }
}

#[test]
fn an_empty_scp_is_refused_even_with_roles() {
    for scp in ["", " ", "   "] {
        assert!(wrong("scp")(refusal(&with(application(), "scp", json!(scp)))), "{scp:?}");
    }
}

#[test]
fn a_user_has_an_object_id() {
    assert!(wrong("oid")(refusal(&with(user(), "oid", Value::Null))));
    assert!(verify(&ours(), &SIGNER.sign(&with(application(), "oid", Value::Null))).is_ok());
}

#[test]
fn group_overage_is_never_no_groups() {
    for (claim, value) in [("_claim_names", json!({"groups": "src1"})), ("hasgroups", json!(true))] {
        for groups in [Value::Null, json!([GROUP])] {
            let claims = with(with(user(), "groups", groups), claim, value.clone());
            let principal = verify(&ours(), &SIGNER.sign(&claims)).unwrap();
            assert!(
                matches!(principal.kind, PrincipalKind::User { groups: Groups::Overage, .. }),
                "{claims}"
            );
        }
    }
    for claims in
        [with(user(), "_claim_names", json!({"other": "src1"})), with(user(), "hasgroups", json!(false))]
    {
        let principal = verify(&ours(), &SIGNER.sign(&claims)).unwrap();
        assert!(matches!(principal.kind, PrincipalKind::User { groups: Groups::Listed(_), .. }), "{claims}");
    }
}

#[test]
fn the_application_is_appid_or_azp_and_they_may_not_disagree() {
    assert_eq!(refusal(&with(application(), "azp", json!(USER))), TokenError::Bad(Flaw::TwoApplications));
    assert!(verify(&ours(), &SIGNER.sign(&with(application(), "azp", json!(APPLICATION)))).is_ok());
    assert!(wrong("appid` or `azp")(refusal(&with(application(), "appid", Value::Null))));
}

#[test]
fn a_token_lives_from_nbf_to_exp_with_the_skew_on_both_ends() {
    let token = SIGNER.sign(&with(with(application(), "nbf", json!(NOW)), "exp", json!(NOW + 100)));
    for (now, expected) in [
        (NOW - 61, Some(TokenError::NotYetValid)),
        (NOW - 60, None),
        (NOW + 159, None),
        (NOW + 160, Some(TokenError::Expired)),
    ] {
        assert_eq!(verify_at(&ours(), &token, now).err(), expected, "{}", now - NOW);
    }
    let strict = verifier(&files(&format!("clock_skew = \"0s\"\n{}", issuers()), &[SIGNER.jwk("one")]), None);
    for (now, expected) in [
        (NOW - 1, Some(TokenError::NotYetValid)),
        (NOW, None),
        (NOW + 99, None),
        (NOW + 100, Some(TokenError::Expired)),
    ] {
        assert_eq!(verify_at(&strict, &token, now).err(), expected, "{}", now - NOW);
    }
}

#[test]
fn nbf_and_iat_may_be_absent_but_exp_may_not() {
    let claims = with(with(application(), "nbf", Value::Null), "iat", Value::Null);
    assert!(verify(&ours(), &SIGNER.sign(&claims)).is_ok());
    assert!(wrong("exp")(refusal(&with(claims, "exp", Value::Null))));
}

#[test]
fn aud_is_one_or_a_list_and_matched_to_the_letter() {
    assert!(verify(&ours(), &SIGNER.sign(&with(application(), "aud", json!(["x", AUDIENCE])))).is_ok());
    for aud in [json!("x"), json!(""), json!([]), json!(["x"]), json!(format!("{AUDIENCE}/"))] {
        assert_eq!(refusal(&with(application(), "aud", aud.clone())), TokenError::WrongAudience, "{aud}");
    }
    assert!(wrong("aud")(refusal(&with(application(), "aud", Value::Null))));
}

#[test]
fn a_claim_of_the_wrong_type_is_refused() {
    let cases = [
        ("exp", json!("1800003600"), "exp"),
        ("exp", json!(1_800_003_600.5), "exp"),
        ("exp", json!(-1), "exp"),
        ("exp", json!(1_800_003_600_000_i64), "exp"),
        ("exp", json!(u64::MAX), "exp"),
        ("nbf", json!("0"), "nbf"),
        ("iat", json!([]), "iat"),
        ("aud", json!(5), "aud"),
        ("aud", json!([AUDIENCE, 5]), "aud"),
        ("iss", json!(5), "iss"),
        ("tid", json!("contoso.com"), "tid"),
        ("ver", json!(1.0), "ver"),
        ("ver", json!("3.0"), "ver"),
        ("appid", json!("soar"), "appid"),
        ("oid", json!("alice"), "oid"),
        ("roles", json!("Machine.Isolate"), "roles"),
        ("roles", json!(["Machine.Isolate", 1]), "roles"),
        ("scp", json!(["Machine.Isolate"]), "scp"),
        ("groups", json!("all"), "groups"),
        ("groups", json!(["Domain Admins"]), "groups"),
        ("hasgroups", json!("true"), "hasgroups"),
        ("_claim_names", json!(["groups"]), "_claim_names"),
        ("idtyp", json!(true), "idtyp"),
        ("uti", json!(1), "uti"),
    ];
    for (claim, value, named) in cases {
        let error = refusal(&with(application(), claim, value.clone()));
        assert!(wrong(named)(error), "{claim} = {value}: {error}");
    }
    for claim in ["iss", "tid"] {
        assert!(wrong(claim)(refusal(&with(application(), claim, Value::Null))), "{claim}");
    }
    // `null` is a value, and not one of the right type.
    let text = application().to_string().replace("\"uti\":\"abc\"", "\"uti\":null");
    assert!(wrong("uti")(verify(&ours(), &SIGNER.sign_text(&header().to_string(), &text)).unwrap_err()));
}

/// A verifier of one issuer, `https://id.example/`, that calls the claims so.
fn mapped(claims: &str) -> std::sync::Arc<crate::token::Verifier> {
    let toml = format!(
        "[[issuer]]\nname = \"x\"\nissuer = \"https://id.example/\"\ntenants = [\"{TENANT}\"]\n\
         audiences = [\"{AUDIENCE}\"]\nkeys = \"keys.json\"\nclaims = {{ {claims} }}\n"
    );
    verifier(&files(&toml, &[SIGNER.jwk("one")]), None)
}

/// The claims of an access token of RFC 9068.
fn rfc_9068() -> Value {
    json!({
        "iss": "https://id.example/", "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW, "client_id": APPLICATION,
        "sub": USER, "jti": "j", "scope": "Machine.Read  Machine.Isolate", "groups": [GROUP],
    })
}

const BOTH: &str = "appid = \"client_id\", oid = \"sub\", scp = \"scope\", roles = \"roles\", groups = \"groups\", uti = \"jti\"";

#[test]
fn an_issuer_may_call_the_claims_otherwise() {
    let principal = verify(&mapped(BOTH), &SIGNER.sign(&rfc_9068())).unwrap();
    assert_eq!(
        principal.subject,
        Subject {
            tenant: TENANT.parse().unwrap(),
            application: APPLICATION.parse().unwrap(),
            user: Some(USER.parse().unwrap())
        }
    );
    let permissions = vec!["Machine.Read".into(), "Machine.Isolate".into()];
    let groups = Groups::Listed(vec![GROUP.parse().unwrap()]);
    assert_eq!(principal.kind, PrincipalKind::User { permissions, groups });
    assert_eq!(principal.token_id.as_deref(), Some("j"));

    let application = with(with(rfc_9068(), "scope", Value::Null), "roles", json!(["A", "B"]));
    let principal = verify(&mapped(BOTH), &SIGNER.sign(&application)).unwrap();
    let permissions = vec!["A".into(), "B".into()];
    assert_eq!(
        (principal.subject.user, &principal.kind),
        (None, &PrincipalKind::Application { permissions })
    );
}

#[test]
fn permissions_of_another_issuer_may_be_words_or_a_list() {
    for roles in [json!("A B"), json!(["A", "B"])] {
        let claims = with(with(rfc_9068(), "scope", Value::Null), "roles", roles.clone());
        let principal = verify(&mapped(BOTH), &SIGNER.sign(&claims)).unwrap();
        assert_eq!(principal.permissions(), ["A".into(), "B".into()], "{roles}");
    }
    for scope in [json!(["A"]), json!("A")] {
        let principal = verify(&mapped(BOTH), &SIGNER.sign(&with(rfc_9068(), "scope", scope))).unwrap();
        assert_eq!(principal.permissions(), ["A".into()]);
    }
    for scope in [json!(5), json!([5]), json!({}), json!([]), json!("")] {
        let error =
            verify(&mapped(BOTH), &SIGNER.sign(&with(rfc_9068(), "scope", scope.clone()))).unwrap_err();
        assert!(wrong("scp")(error), "{scope}: {error}");
    }
}

#[test]
fn a_claim_that_the_policy_does_not_name_is_not_read() {
    // `scp` is Entra's word, and not this issuer's: it neither grants anything nor makes a user of an application.
    let applications = mapped("appid = \"client_id\", roles = \"scope\"");
    let claims = with(with(rfc_9068(), "scp", json!("Machine.CollectForensics")), "tid", json!("contoso"));
    let principal = verify(&applications, &SIGNER.sign(&claims)).unwrap();
    assert_eq!(principal.subject.tenant, TENANT.parse().unwrap());
    let permissions = vec!["Machine.Read".into(), "Machine.Isolate".into()];
    assert_eq!(principal.kind, PrincipalKind::Application { permissions });
    let without_groups = mapped("appid = \"client_id\", oid = \"sub\", scp = \"scope\"");
    let principal = verify(&without_groups, &SIGNER.sign(&rfc_9068())).unwrap();
    assert!(
        matches!(&principal.kind, PrincipalKind::User { groups: Groups::Listed(list), .. } if list.is_empty())
    );
}

#[test]
fn where_both_kinds_share_a_claim_idtyp_must_tell_them_apart() {
    let verifier =
        mapped("appid = \"client_id\", oid = \"sub\", roles = \"scope\", scp = \"scope\", idtyp = \"kind\"");
    for (kind, user) in [("app", None), ("user", Some(USER.parse().unwrap()))] {
        let principal = verify(&verifier, &SIGNER.sign(&with(rfc_9068(), "kind", json!(kind)))).unwrap();
        assert_eq!(principal.subject.user, user, "{kind}");
    }
    for kind in [Value::Null, json!("device"), json!(1)] {
        let error = verify(&verifier, &SIGNER.sign(&with(rfc_9068(), "kind", kind.clone()))).unwrap_err();
        assert!(wrong("idtyp")(error), "{kind}: {error}");
    }
}

#[test]
fn ids_of_another_issuer_are_guids_too() {
    for (claim, value, named) in [
        ("client_id", json!("soar"), "appid"),
        ("client_id", Value::Null, "appid"),
        ("sub", json!("auth0|5f7c8ec7c33c6c004bbafe82"), "oid"),
        ("sub", Value::Null, "oid"),
        ("groups", json!(["admins"]), "groups"),
        ("jti", json!(5), "uti"),
    ] {
        let error = verify(&mapped(BOTH), &SIGNER.sign(&with(rfc_9068(), claim, value))).unwrap_err();
        assert!(wrong(named)(error), "{claim}: {error}");
    }
}

#[test]
fn distributed_groups_of_another_issuer_are_overage_too() {
    let claims = with(with(rfc_9068(), "groups", Value::Null), "_claim_names", json!({"groups": "s"}));
    let principal = verify(&mapped(BOTH), &SIGNER.sign(&claims)).unwrap();
    assert!(matches!(principal.kind, PrincipalKind::User { groups: Groups::Overage, .. }));
}
