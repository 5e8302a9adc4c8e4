//! What the entries of `issuers.toml` ask and believe, as sentences that can be compared with those of another set.

use super::{Routes, Rules};
use crate::token::claims::names::{Claim, Form, Permissions};
use crate::token::ring::{IssuerKeys, KeySource};

impl Routes {
    /// What is so of each issuer, by its name.
    pub(in crate::token) fn facts(&self) -> Vec<(&str, String)> {
        let mut facts = Vec::new();
        for route in self.issuers.values() {
            for (tenant, keys) in &route.tenants {
                let speaks = format!("speaks for the tenant {tenant} as {}", route.issuer);
                facts.extend(of(keys, &route.rules, speaks));
            }
        }
        for route in self.clouds.values() {
            for (version, keys) in [("1.0", &route.v1), ("2.0", &route.v2)] {
                let tenant = route.tenant;
                let speaks = format!("speaks for the tenant {tenant} in tokens of version {version}");
                facts.extend(of(keys, &route.rules, speaks));
            }
        }
        facts
    }
}

/// All that is so of one issuer of a tenant.
fn of<'k>(keys: &'k IssuerKeys, rules: &Rules, speaks: String) -> impl Iterator<Item = (&'k str, String)> {
    let facts = [speaks].into_iter().chain(rules.facts()).chain(keys.facts());
    facts.map(|fact| (&*keys.name, fact))
}

impl Rules {
    fn facts(&self) -> Vec<String> {
        let Self { audiences, algorithms, typ, claims } = self;
        let mut facts: Vec<_> =
            audiences.iter().map(|audience| format!("may name the audience {audience}")).collect();
        facts.extend(algorithms.iter().map(|algorithm| format!("may sign by {algorithm}")));
        facts.push(match typ {
            Some(typ) => format!("must say that a token is of the type `{}`", typ.as_str()),
            None => "need not say of which type a token is".to_owned(),
        });
        let of_token = [&claims.ver, &claims.tid, &claims.uti];
        let of_caller = [&claims.appid, &claims.azp, &claims.oid, &claims.idtyp, &claims.groups];
        let permissions = [&claims.roles, &claims.scp];
        let all = of_token.into_iter().chain(of_caller).chain(permissions.map(|listed| &listed.claim));
        facts.extend(all.filter_map(Claim::fact));
        facts.extend(permissions.into_iter().filter_map(Permissions::fact));
        facts
    }
}

impl Claim {
    fn fact(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        Some(format!("says `{}` in the claim `{name}`", self.entra))
    }
}

impl Permissions {
    fn fact(&self) -> Option<String> {
        let name = self.claim.name.as_deref()?;
        let form = match self.form {
            Form::Words => "one text",
            Form::List => "a list",
            Form::Any => "one text or a list",
        };
        Some(format!("writes the permissions in `{name}` as {form}"))
    }
}

impl IssuerKeys {
    fn facts(&self) -> Vec<String> {
        match self.ring.source() {
            // A key in another file, or in other words, is the same key. It is used for as long as it stands there.
            KeySource::File { .. } => self.ring.published().keys.facts().collect(),
            KeySource::Discovery(discovery) => {
                let keep = jiff::SignedDuration::try_from(self.keep).unwrap_or_default();
                let mut facts = vec![
                    format!("publishes its keys by {}", discovery.url),
                    format!("may be away for {keep:#} before its last keys are given up"),
                ];
                let certificates = discovery.ca_thumbprints().into_iter();
                facts
                    .extend(certificates.map(|of| format!("is believed by the certificate of SHA-256 {of}")));
                facts
            }
        }
    }
}
