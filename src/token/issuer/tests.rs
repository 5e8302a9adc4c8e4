use serde_json::json;

use super::*;
use crate::token::forge::*;

/// The problems of `issuers.toml` with `from` replaced once by `to`.
fn problems_of(from: &str, to: &str) -> Vec<String> {
    let toml = issuers();
    assert!(toml.contains(from), "{from}");
    problems(&files(&toml.replacen(from, to, 1), &[SIGNER.jwk("one")]))
}

fn only_problem(from: &str, to: &str) -> String {
    let problems = problems_of(from, to);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

const KEYS: &str = "keys = \"keys.json\"";

#[test]
fn a_set_without_issuers_toml_is_a_problem_and_one_without_issuers_is_not() {
    assert!(problems(&PolicyFiles::default())[0].starts_with("issuers.toml: "));
    assert_eq!(problems(&files("", &[])), [""; 0]);
}

#[test]
fn every_mistake_is_named_at_its_place() {
    let tenants = format!("tenants = [\"{TENANT}\"]");
    let audiences = format!("audiences = [\"{AUDIENCE}\"]");
    let cases = [
        ("name = \"v1\"", "name = \"\"", "issuers.toml:2:8: an issuer must have a name"),
        ("name = \"v1\"", "nam = \"v1\"", "issuers.toml:2:1: unknown field `nam`"),
        ("name = \"v1\"", "name = \"v2\"", "issuers.toml:9:8: issuer `v2` has an entry already"),
        (
            "sts.windows.net/{tid}/",
            "sts.windows.net/{tenant}/",
            "issuers.toml:3:10: `https://sts.windows.net/{tenant}/` is not a URL",
        ),
        ("https://sts.windows.net/{tid}/", "", "issuers.toml:3:10: `` is not a URL"),
        (
            "https://sts.windows.net/{tid}/",
            "https://login.microsoftonline.com/{tid}/v2.0",
            "issuers.toml:10:10: the tokens of issuer",
        ),
        (&tenants, "tenants = []", "issuers.toml:4:11: an issuer names at least one tenant"),
        (&tenants, "tenants = [\"contoso.com\"]", "issuers.toml:4:12: `contoso.com` is not a GUID"),
        (&tenants, "tenants = \"x\"", "issuers.toml:4:11: invalid type: string"),
        (&audiences, "audiences = []", "issuers.toml:5:13: an issuer names at least one audience"),
        (&audiences, "audiences = [\"\"]", "issuers.toml:5:14: an audience is not empty"),
        (KEYS, "keys = \"none.json\"", "issuers.toml:6:8: the policy set has no file `none.json`"),
        (KEYS, "", "issuers.toml:1:1: an issuer has either `keys` or `discovery`"),
        (KEYS, "keys = \"keys.json\"\ndiscovery = \"https://x/\"", "issuers.toml:1:1: an issuer has either"),
        (KEYS, "keys = \"keys.json\"\nca = \"ca.pem\"", "issuers.toml:7:6: `ca` is for `discovery`"),
        (
            KEYS,
            "discovery = \"https://x/\"\nca = \"ca.pem\"",
            "issuers.toml:7:6: the policy set has no file `ca.pem`",
        ),
        (KEYS, "discovery = \"https://x/\"\nca = \"keys.json\"", "keys.json: it holds no certificate in PEM"),
        ("name = \"v1\"\n", "", "issuers.toml:1:1: an issuer without a `cloud` needs `name`"),
        (
            "issuer = \"https://sts.windows.net/{tid}/\"\n",
            "",
            "issuers.toml:1:1: an issuer without a `cloud` needs `issuer`",
        ),
        (&format!("{audiences}\n"), "", "issuers.toml:1:1: an issuer without a `cloud` needs `audiences`"),
        (
            KEYS,
            "keys = \"keys.json\"\ntyp = \"jwt\"",
            "issuers.toml:7:7: `jwt` is neither `JWT` nor `at+jwt`",
        ),
        (
            KEYS,
            "keys = \"keys.json\"\nalgorithms = []",
            "issuers.toml:7:14: an issuer signs by at least one algorithm",
        ),
        (
            KEYS,
            "keys = \"keys.json\"\nalgorithms = [\"HS256\"]",
            "issuers.toml:7:15: `HS256` is none of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`",
        ),
        (
            KEYS,
            "keys = \"keys.json\"\nkeep_keys = \"1d\"",
            "issuers.toml:7:13: `1d` is not a time from `1h` to `168h`",
        ),
    ];
    for (from, to, expected) in cases {
        let problem = only_problem(from, to);
        assert!(problem.starts_with(expected), "{problem}");
    }
    let twice = format!("tenants = [\"{TENANT}\", \"{}\"]", TENANT.replace('-', ""));
    assert!(only_problem(&tenants, &twice).ends_with("is named twice"));
}

#[test]
fn all_mistakes_of_an_entry_are_named_at_once() {
    let found = problems(&files(
        "clock_skew = \"1h\"\nextra = 1\n[[issuer]]\nname = \"\"\nissuer = \"{x}\"\ntenants = []\n\
         audiences = []\ndiscovery = \"ftp://x\"\n",
        &[],
    ));
    let places: Vec<_> = found.iter().map(|problem| &problem[..17]).collect();
    assert_eq!(
        places,
        [
            "issuers.toml:1:14",
            "issuers.toml:2:1:",
            "issuers.toml:4:8:",
            "issuers.toml:5:10",
            "issuers.toml:6:11",
            "issuers.toml:7:13",
            "issuers.toml:8:13"
        ],
        "{found:?}"
    );
}

#[test]
fn keys_are_fetched_by_https_or_from_this_machine() {
    for url in [
        "http://login.microsoftonline.com/x",
        "http://127.0.0.1.example/x",
        "http://10.0.0.1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "login.microsoftonline.com",
        "https://user:pw@x/",
        "https://x/#y",
    ] {
        let problem = only_problem(KEYS, &format!("discovery = \"{url}\""));
        assert!(problem.starts_with("issuers.toml:6:13: "), "{problem}");
        assert!(problem.contains(&format!("`{url}` can't be fetched")), "{problem}");
    }
    let problem = only_problem(KEYS, "discovery = \"https://x/{tenant}\"");
    assert!(problem.starts_with("issuers.toml:6:13: `https://x/{tenant}` is not a URL"), "{problem}");
    for url in [
        "https://login.microsoftonline.com/{tid}/x",
        "http://127.0.0.1:8080/x",
        "http://[::1]:1/x",
        "http://localhost/x",
        "http://127.255.0.1/x",
    ] {
        assert_eq!(problems_of(KEYS, &format!("discovery = \"{url}\"")), [""; 0]);
    }
}

#[test]
fn clock_skew_is_at_most_five_minutes() {
    for (skew, accepted) in [
        ("0s", true),
        ("300s", true),
        ("301s", false),
        ("60", false),
        ("-1s", false),
        ("1m", true),
        ("6m", false),
        ("1 hour", false),
    ] {
        let toml = format!("clock_skew = \"{skew}\"\n{}", issuers());
        assert_eq!(problems(&files(&toml, &[SIGNER.jwk("one")])).is_empty(), accepted, "{skew}");
    }
}

#[test]
fn keys_are_kept_for_an_hour_to_a_week() {
    for (keep, accepted) in [
        ("1h", true),
        ("24h", true),
        ("168h", true),
        ("0h", false),
        ("169h", false),
        ("60s", false),
        ("24", false),
    ] {
        let toml = format!("keep_keys = \"{keep}\"\n{}", issuers());
        assert_eq!(problems(&files(&toml, &[SIGNER.jwk("one")])).is_empty(), accepted, "{keep}");
    }
}

/// The problems of these `claims` of an issuer of so many tenants.
fn problems_of_claims(claims: &str, tenants: &[&str]) -> Vec<String> {
    let toml = issuers().replacen(KEYS, &format!("{KEYS}\nclaims = {{ {claims} }}"), 1);
    let toml = toml.replacen(&format!("[\"{TENANT}\"]"), &format!("{tenants:?}"), 1);
    problems(&files(&toml, &[SIGNER.jwk("one")]))
}

#[test]
fn claims_that_could_not_tell_who_calls_are_refused_at_load() {
    for (claims, expected) in [
        ("roles = \"scope\"", "7:10: missing field `appid`"),
        ("appid = \"client_id\"", "7:10: `claims` names neither `roles` nor `scp`"),
        (
            "appid = \"client_id\", scp = \"scope\"",
            "7:10: a token with `scp` is a user's: `claims` must name its `oid`",
        ),
        (
            "appid = \"client_id\", oid = \"sub\", roles = \"scope\", scp = \"scope\"",
            "7:10: `roles` and `scp` are one claim: `claims` must name the `idtyp`",
        ),
        ("appid = \"sub\", oid = \"sub\", scp = \"scope\"", "7:33: `sub` is one claim and can't be two"),
        ("appid = \"client_id\", roles = \"client_id\"", "7:41: `client_id` is one claim and can't be two"),
        ("appid = \"\", roles = \"x\"", "7:20: a claim has a name"),
        ("appid = \"aud\", roles = \"x\"", "7:20: `aud` has a meaning of its own in every token"),
        ("appid = \"x\", permissions = \"y\"", "7:25: unknown field `permissions`"),
        ("appid = 5, roles = \"y\"", "7:20: invalid type: integer"),
    ] {
        let problems = problems_of_claims(claims, &[TENANT]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("issuers.toml:{expected}")), "{problems:?}");
    }
    let two = problems_of_claims("appid = \"client_id\", roles = \"scope\"", &[TENANT, OTHER_TENANT]);
    assert!(two[0].starts_with("issuers.toml:7:10: tokens without a `tid` belong to one tenant"), "{two:?}");
    let named = "appid = \"client_id\", tid = \"org\", roles = \"scope\"";
    assert_eq!(problems_of_claims(named, &[TENANT, OTHER_TENANT]), [""; 0]);
}

#[test]
fn a_key_file_without_a_usable_key_is_a_problem() {
    let problem = &problems(&files(&issuers(), &[with(SIGNER.jwk("one"), "kty", json!("oct"))]))[0];
    assert_eq!(
        problem,
        "keys.json: no key that verifies signatures, key `one`: its `kty` is none of RSA, EC and OKP"
    );
    let mut files = files(&issuers(), &[]);
    files.insert(SourceFile::new("keys.json", "{\n\"keys\": [}"));
    assert!(problems(&files)[0].starts_with("keys.json:2:1: not a JSON web key set"));
}

#[test]
fn a_reload_keeps_the_keys_of_an_issuer_that_is_as_it_was() {
    let toml = issuers().replacen(KEYS, "discovery = \"https://login.example/{tid}/\"", 1);
    let first = verifier(&files(&toml, &[SIGNER.jwk("one")]), None);
    let kept = |toml: &str| {
        let second = verifier(&files(toml, &[SIGNER.jwk("one")]), Some(&first));
        let pairs = first.keys().iter().zip(second.keys());
        pairs.map(|(a, b)| Arc::ptr_eq(&a.ring, &b.ring)).collect::<Vec<_>>()
    };
    assert_eq!(kept(&format!("clock_skew = \"1s\"\n{toml}")), [true, true]);
    assert_eq!(kept(&format!("keep_keys = \"1h\"\n{toml}")), [true, true]);
    assert_eq!(kept(&toml.replace(AUDIENCE, "another")), [true, true]);
    let both = format!("[\"{TENANT}\", \"{OTHER_TENANT}\"]");
    assert!(kept(&toml.replace(&format!("[\"{TENANT}\"]"), &both))[0]);
    assert_eq!(kept(&toml.replace("login.example", "login2.example")), [false, true]);
    assert_eq!(kept(&toml.replace("sts.windows.net", "sts.example")), [false, true]);
    assert_eq!(kept(&toml.replace("name = \"v2\"", "name = \"v3\"")), [true, true]);
}

#[test]
fn an_issuer_with_keys_of_its_own_is_pointed_out_beside_another() {
    let warnings = |toml: &str| {
        let mut problems = Problems::default();
        Verifier::compile(&files(toml, &[SIGNER.jwk("one")]), None, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        problems.into_warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // Two forms of tokens by the same keys are one issuer.
    assert_eq!(warnings(&issuers()), [""; 0]);
    let other = "[[issuer]]\nname = \"other\"\nissuer = \"https://id.example/\"\ntenants = [\"{}\"]\naudiences = [\"x\"]\n\
                 discovery = \"https://id.example/x\"\n"
        .replace("{}", TENANT);
    let warnings = warnings(&format!("{other}{}", issuers()));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("issuers.toml:7:1: `v1` has other keys than `other`"), "{warnings:?}");
}

#[test]
fn a_changed_key_file_is_a_new_set_of_keys() {
    let first = verifier(&files(&issuers(), &[SIGNER.jwk("one")]), None);
    let second = verifier(&files(&issuers(), &[SIGNER.jwk("two")]), Some(&first));
    assert!(verify(&first, &SIGNER.sign(&application())).is_ok());
    assert!(verify(&second, &SIGNER.sign(&application())).is_err());
}
