//! What is changed in a good token: one thing at a time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{Base, FUTURE, Ignored, PAST, Random, Rule, Scene};
use crate::token::forge::*;

/// A kind of change, and the rules that may make a difference of it.
pub(super) struct Change {
    pub(super) name: &'static str,
    pub(super) may: &'static [Rule],
    pub(super) ignored: Option<Ignored>,
    /// Makes a changed token of one that was good.
    pub(super) make: fn(&Scene, &mut Random, &Base) -> String,
}

pub(super) const CHANGES: [Change; 16] = [
    Change::new("nothing", &[], |scene, _, base| scene.sign(base, &base.header, &base.claims)),
    Change::new("a claim left out", &[Rule::Identity, Rule::Kind], |scene, random, base| {
        let mut claims = base.claims.clone();
        claims.as_object_mut().unwrap().remove(random.key(&base.claims));
        scene.sign(base, &base.header, &claims)
    }),
    Change::new(
        "a claim of another value",
        &[Rule::Identity, Rule::Kind, Rule::Tenant, Rule::WholeSeconds, Rule::OneIssuer],
        |scene, random, base| {
            let mut claims = base.claims.clone();
            let name = random.key(&base.claims);
            claims[name] = random.value();
            scene.sign(base, &base.header, &claims)
        },
    ),
    Change::new("a claim more", &[Rule::Identity, Rule::Kind, Rule::WholeSeconds], |scene, random, base| {
        let mut claims = base.claims.clone();
        let names =
            ["idtyp", "hasgroups", "_claim_names", "azp", "appid", "scp", "iat", "nbf", "x", "Exp", ""];
        claims[*random.of(&names)] = random.value();
        scene.sign(base, &base.header, &claims)
    }),
    Change::new("a time", &[Rule::WholeSeconds], |scene, random, base| {
        let times = [
            json!(PAST),
            json!(FUTURE),
            json!(4_000_000_000.0),
            json!(4_000_000_000.5),
            json!(4_000_000_000_000_i64),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!("4000000000"),
            json!([FUTURE]),
        ];
        let mut claims = base.claims.clone();
        claims[*random.of(&["exp", "nbf", "iat"])] = random.of(&times).clone();
        scene.sign(base, &base.header, &claims)
    }),
    Change::new("an issuer or a tenant", &[Rule::Tenant, Rule::OneIssuer], |scene, random, base| {
        let mut claims = base.claims.clone();
        let value = match random.below(7) {
            0 => json!(format!("https://sts.windows.net/{OTHER_TENANT}/")),
            1 => json!([claims["iss"]]),
            2 => json!([claims["iss"], "https://evil.example/"]),
            3 => json!(claims["iss"].as_str().unwrap().to_uppercase()),
            4 => json!(format!("https://login.microsoftonline.com/{TENANT}/v2.0")),
            5 => json!(format!("https://sts.windows.net/{TENANT}/")),
            _ => {
                claims["tid"] = json!(OTHER_TENANT);
                claims["iss"].clone()
            }
        };
        claims["iss"] = value;
        scene.sign(base, &base.header, &claims)
    }),
    Change::new("an audience", &[], |scene, random, base| {
        let mut claims = base.claims.clone();
        let values = [
            json!(AUDIENCE),
            json!([AUDIENCE]),
            json!(["x", AUDIENCE]),
            json!(["x"]),
            json!([AUDIENCE, 1]),
            json!({AUDIENCE: 1}),
        ];
        claims["aud"] = random.of(&values).clone();
        scene.sign(base, &base.header, &claims)
    }),
    Change::new("a claim twice", &[Rule::MemberTwice], |scene, random, base| {
        let name = random.key(&base.claims);
        let twice = format!("{{\"{name}\":{},", base.claims[name]);
        let nested = "{\"xms\":[{\"a\":1,\"a\":1}],".to_owned();
        let text = base.claims.to_string().replacen('{', random.of(&[twice, nested]).as_str(), 1);
        scene.sign_text(base, &base.header.to_string(), text.as_bytes())
    }),
    Change::new("a header parameter twice", &[Rule::MemberTwice], |scene, random, base| {
        let twice =
            ["{\"alg\":\"none\",", "{\"kid\":\"x\",", "{\"x\":1,\"x\":2,", "{\"\\u006b\\u0069d\":\"x\","];
        let text = base.header.to_string().replacen('{', twice[random.below(twice.len())], 1);
        scene.sign_text(base, &text, base.claims.to_string().as_bytes())
    }),
    Change::new("a header parameter", &[Rule::RefusedParameter, Rule::Type], |scene, random, base| {
        let mut header = base.header.clone();
        let (name, value) = match random.below(5) {
            0 => (
                "alg",
                random.of(&["none", "HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA", "rs256"]),
            ),
            1 => ("kid", random.of(&["", "x", "../../dev/null", "' OR 1=1", "RS256", "ES256"])),
            2 => ("typ", random.of(&["JWT", "at+jwt", "application/at+jwt", "dpop+jwt", "", "logout+jwt"])),
            3 => ("cty", random.of(&["JWT", "json", ""])),
            _ => (*random.of(&["jku", "x5u", "x5t"]), random.of(&["https://evil.example/", "", "x"])),
        };
        header[name] = json!(value);
        scene.sign(base, &header, &base.claims)
    }),
    Change {
        ignored: Some(Ignored),
        ..Change::new(
            "a header parameter of any value",
            &[Rule::RefusedParameter, Rule::Type],
            |scene, random, base| {
                let mut header = base.header.clone();
                let names = [
                    "crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5c", "x5u", "x", "alg", "kid", "typ",
                ];
                header[*random.of(&names)] = random.value();
                scene.sign(base, &header, &base.claims)
            },
        )
    },
    Change::new("bytes that are not JSON of one object", &[], |scene, random, base| {
        let mut bytes = base.claims.to_string().into_bytes();
        let index = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            1 => bytes.extend_from_slice(b"{}"),
            2 => bytes[index] = 0xff,
            3 => bytes.truncate(index),
            _ => bytes = [b"[".as_slice(), &bytes, b"]"].concat(),
        }
        scene.sign_text(base, &base.header.to_string(), &bytes)
    }),
    Change::new("a great size", &[Rule::TooLong], |scene, random, base| {
        let mut claims = base.claims.clone();
        claims["x"] = json!("y".repeat(4_000 + random.below(4_000)));
        scene.sign(base, &base.header, &claims)
    }),
    Change::new("another signature", &[], |scene, random, base| {
        let (signed, signature) = base.token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        match random.below(6) {
            0 => {
                let bit = random.below(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            1 => bytes.truncate(random.below(bytes.len())),
            2 => bytes.push(0),
            3 => bytes.insert(0, 0),
            4 => bytes.fill(0),
            _ => {
                let other = random.of(&scene.bases);
                return format!("{signed}.{}", other.token.rsplit_once('.').unwrap().1);
            }
        }
        format!("{signed}.{}", encode(&bytes))
    }),
    Change::new("another part", &[], |scene, random, base| {
        // Header, claims or signature of another good token.
        let other = random.of(&scene.bases);
        let (mut parts, theirs): (Vec<_>, Vec<_>) =
            (base.token.split('.').collect(), other.token.split('.').collect());
        let index = random.below(3);
        parts[index] = theirs[index];
        parts.join(".")
    }),
    Change::new("another letter", &[], |_, random, base| {
        let mut text = base.token.clone().into_bytes();
        let index = random.below(text.len());
        let letter = *random.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/=~");
        match random.below(4) {
            0 => text[index] = letter,
            1 => text.insert(index, letter),
            2 => drop(text.remove(index)),
            // The last letter, some of whose bits are of no byte.
            _ => *text.last_mut().unwrap() = letter,
        }
        String::from_utf8(text).unwrap()
    }),
];

// === impl Change ===

impl Change {
    const fn new(
        name: &'static str,
        may: &'static [Rule],
        make: fn(&Scene, &mut Random, &Base) -> String,
    ) -> Self {
        Self { name, may, ignored: None, make }
    }
}
