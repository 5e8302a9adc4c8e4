//! Who calls in a case: the claims of a token.

use serde_json::{Map, Value, json};
use toml::Spanned;

use super::document::CallerDocument;
use crate::cli::rehearsal::Rehearsal;
use crate::id::{ApplicationId, EntraGroupId, TenantId, UserId};
use crate::source::{Problems, SourceFile, known_are};
use crate::time::Wall;
use crate::token::RehearsalIssuer;

/// A caller, whose claims are made anew for each time.
#[derive(Debug)]
pub(super) struct Caller {
    issuer: RehearsalIssuer,
    application: ApplicationId,
    user: Option<UserId>,
    permissions: Vec<String>,
    groups: Groups,
    claims: Map<String, Value>,
}

/// How the token tells the groups.
#[derive(Debug)]
enum Groups {
    Listed(Vec<EntraGroupId>),
    Overage,
}

/// An hour, as Entra gives it.
const LIFETIME_SECONDS: i64 = 3_600;

// === impl Caller ===

impl Caller {
    /// Makes it valid; what is wrong becomes a problem, and then there is none.
    pub(super) fn read(
        document: CallerDocument,
        rehearsal: &Rehearsal,
        source: &SourceFile,
        problems: &mut Problems,
    ) -> Option<Self> {
        let application = application(&document, rehearsal, source, problems);
        let user = document.user.as_ref().map(|word| parse::<UserId>(word, source, problems));
        let groups = document.groups.iter().map(|word| parse(word, source, problems)).collect::<Vec<_>>();
        let groups = groups.into_iter().collect::<Option<Vec<_>>>();
        let issuer = issuer(&document, rehearsal, source, problems);
        let claims = document.claims.into_iter().filter_map(|(name, value)| Some((name, to_json(value)?)));
        Some(Self {
            issuer: issuer?,
            application: application?,
            user: user.map_or(Some(None), |user| user.map(Some))?,
            permissions: document.permissions,
            groups: if document.group_overage { Groups::Overage } else { Groups::Listed(groups?) },
            claims: claims.collect(),
        })
    }

    /// The claims of a token that is issued at this time, and that no other token has.
    pub(super) fn claims(&self, now: Wall, rehearsal: &Rehearsal) -> Value {
        let issuer = &self.issuer;
        let now = now.unix_seconds();
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(issuer.iss)),
            ("aud".to_owned(), json!(issuer.audience)),
            ("iat".to_owned(), json!(now)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now + LIFETIME_SECONDS)),
        ]);
        let mut set = |entra: &str, value: Value| {
            if let Some(name) = issuer.claim(entra) {
                claims.insert(name.to_owned(), value);
            }
        };
        set("tid", json!(issuer.tenant.to_string()));
        if let Some(version) = issuer.version {
            set("ver", json!(version));
        }
        set("uti", json!(format!("token-{}", rehearsal.next_token())));
        set("appid", json!(self.application.to_string()));
        match self.user {
            Some(user) => {
                set("idtyp", json!("user"));
                set("oid", json!(user.to_string()));
                set("scp", json!(self.permissions.join(" ")));
            }
            None => {
                set("idtyp", json!("app"));
                set("roles", json!(self.permissions));
            }
        }
        match &self.groups {
            Groups::Listed(groups) if groups.is_empty() => {}
            Groups::Listed(groups) => {
                set("groups", groups.iter().map(|group| json!(group.to_string())).collect());
            }
            Groups::Overage => set("_claim_names", json!({ "groups": "src1" })),
        }
        claims.extend(self.claims.clone());
        Value::Object(claims)
    }
}

fn application(
    document: &CallerDocument,
    rehearsal: &Rehearsal,
    source: &SourceFile,
    problems: &mut Problems,
) -> Option<ApplicationId> {
    let word = &document.application;
    let policies = &rehearsal.snapshot().policies;
    let listed = policies.applications().find(|(_, name, _)| name.as_str() == word.get_ref());
    let found = listed.map(|(id, ..)| *id).or_else(|| word.get_ref().parse().ok());
    if found.is_none() {
        let message = format_args!("`{}` is neither a name of applications.toml nor a GUID", word.get_ref());
        problems.at(source, word.span(), message);
        problems.hint(known_are(
            word.get_ref(),
            policies.applications().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(),
        ));
    }
    found
}

fn issuer(
    document: &CallerDocument,
    rehearsal: &Rehearsal,
    source: &SourceFile,
    problems: &mut Problems,
) -> Option<RehearsalIssuer> {
    let issuers = rehearsal.issuers();
    let known = |issuer: &&RehearsalIssuer| {
        document.issuer.as_ref().is_none_or(|word| *issuer.name == **word.get_ref())
    };
    let of_name: Vec<_> = issuers.iter().filter(known).collect();
    if let (Some(word), []) = (&document.issuer, &*of_name) {
        problems.at(source, word.span(), format_args!("unknown issuer `{}`", word.get_ref()));
        problems
            .hint(known_are(word.get_ref(), issuers.iter().map(|issuer| &*issuer.name).collect::<Vec<_>>()));
        return None;
    }
    let Some(word) = &document.tenant else {
        let first = of_name.first().copied().cloned();
        if first.is_none() {
            problems.at(
                source,
                document.name.span(),
                "issuers.toml has no issuer that could have issued a token",
            );
        }
        return first;
    };
    let tenant = parse::<TenantId>(word, source, problems)?;
    let found = of_name.into_iter().find(|issuer| issuer.tenant == tenant).cloned();
    if found.is_none() {
        problems.at(source, word.span(), format_args!("no issuer of issuers.toml has the tenant `{tenant}`"));
    }
    found
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    word: &Spanned<String>,
    source: &SourceFile,
    problems: &mut Problems,
) -> Option<T> {
    word.get_ref().parse().map_err(|error| problems.at(source, word.span(), error)).ok()
}

/// The value as JSON has it; none for a date, which JSON lacks.
pub(super) fn to_json(value: toml::Value) -> Option<Value> {
    serde_json::to_value(value).ok()
}
