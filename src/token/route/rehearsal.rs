//! The routes of a rehearsal: the policy's own, but for a key that whoever rehearses has the other half of.
//!
//! Nothing else is changed but what a token's header must say, since a rehearsal has claims and no header. It takes a
//! verifier that nobody shares and never gives a gateway one: `tests/floors.rs` knows who may say its name.

use std::sync::Arc;

use super::{CloudRoute, IssuerRoute, Routes, Rules};
use crate::id::TenantId;
use crate::token::algorithm::Algorithm;
use crate::token::claims::names::ENTRA;
use crate::token::keys::KeySet;
use crate::token::ring::{IssuerKeys, KeyRing, Published};

/// An issuer that a token can be rehearsed with: what the token must say to be from it and for us.
#[derive(Debug, Clone)]
pub struct RehearsalIssuer {
    /// Its name in `issuers.toml`.
    pub name: Arc<str>,
    /// `iss`.
    pub iss: String,
    /// `tid`.
    pub tenant: TenantId,
    /// The first of the audiences.
    pub audience: String,
    /// `ver`, where that tells two issuers of a tenant apart.
    pub version: Option<&'static str>,
    rules: Arc<Rules>,
}

/// A key set that a rehearsal cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key of the rehearsal cannot be used: {0}")]
pub struct InvalidRehearsalKeys(String);

// === impl Routes ===

impl Routes {
    /// The same routes with the keys of `text`, a JSON web key set, in the place of every issuer's, and the issuers in the
    /// order of `all`.
    pub(in crate::token) fn rehearsing(
        &self,
        text: &str,
        all: &[IssuerKeys],
    ) -> Result<(Self, Vec<RehearsalIssuer>), InvalidRehearsalKeys> {
        let keys = |before: &IssuerKeys, issuer: Option<&str>| {
            let keys =
                KeySet::parse(text.as_bytes()).map_err(|error| InvalidRehearsalKeys(error.to_string()))?;
            let published = Published { keys, issuer: issuer.map(Into::into) };
            let ring = Arc::new(KeyRing::publishing(&before.name, published));
            Ok(IssuerKeys { name: before.name.clone(), ring, keep: before.keep })
        };
        let (mut routes, mut issuers) = (Self::default(), Vec::new());
        for route in self.issuers.values() {
            let rules = route.rules.rehearsing();
            let mut tenants = Vec::new();
            for (tenant, before) in &route.tenants {
                tenants.push((*tenant, keys(before, None)?));
                issuers.push((before.clone(), rules.issuer(before, &route.issuer, *tenant, None)));
            }
            let route = IssuerRoute { issuer: route.issuer.clone(), rules, tenants };
            routes.issuers.insert(route.issuer.clone(), Arc::new(route));
        }
        for route in self.clouds.values() {
            let CloudRoute { tenant, login, .. } = **route;
            let rules = route.rules.rehearsing();
            let (v1, v2) = (login.v1_issuer(tenant), login.v2_issuer(tenant));
            issuers.push((route.v1.clone(), rules.issuer(&route.v1, &v1, tenant, Some("1.0"))));
            issuers.push((route.v2.clone(), rules.issuer(&route.v2, &v2, tenant, Some("2.0"))));
            let (v1, v2) = (keys(&route.v1, Some(&v1))?, keys(&route.v2, Some(&v2))?);
            routes.clouds.insert(tenant, Arc::new(CloudRoute { tenant, login, rules, v1, v2 }));
        }
        issuers.sort_by_key(|(before, _)| all.iter().position(|keys| keys == before));
        Ok((routes, issuers.into_iter().map(|(_, issuer)| issuer).collect()))
    }
}

// === impl Rules ===

impl Rules {
    /// The rules without what they ask of a header.
    fn rehearsing(&self) -> Arc<Self> {
        let Self { audiences, claims, .. } = self;
        let (audiences, claims) = (audiences.clone(), claims.clone());
        Arc::new(Self { audiences, algorithms: Algorithm::ALL.to_vec(), typ: None, claims })
    }

    fn issuer(
        self: &Arc<Self>,
        keys: &IssuerKeys,
        iss: &str,
        tenant: TenantId,
        version: Option<&'static str>,
    ) -> RehearsalIssuer {
        RehearsalIssuer {
            name: keys.name.clone(),
            iss: iss.to_owned(),
            tenant,
            audience: self.audiences.first().map(|audience| audience.to_string()).unwrap_or_default(),
            version,
            rules: self.clone(),
        }
    }
}

// === impl RehearsalIssuer ===

impl RehearsalIssuer {
    /// What the issuer calls the claim that Entra calls so; none if its tokens have none.
    pub fn claim<'n>(&'n self, entra: &'n str) -> Option<&'n str> {
        let names = &self.rules.claims;
        if *names == ENTRA {
            return Some(entra);
        }
        let claims = [&names.tid, &names.appid, &names.oid, &names.idtyp, &names.groups, &names.uti];
        let permissions = [&names.roles.claim, &names.scp.claim];
        match claims.into_iter().chain(permissions).find(|claim| claim.entra == entra) {
            Some(claim) => claim.name.as_deref(),
            None => Some(entra),
        }
    }
}
