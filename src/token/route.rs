//! From what a token says of its issuer to the one entry of the policy that judges it.

use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::algorithm::Algorithm;
use super::claims::names::{ClaimNames, ENTRA};
use super::claims::{Claims, Version};
use super::cloud::LoginHost;
use super::error::{Flaw, TokenError};
use super::jws::{Header, TokenType};
use super::ring::IssuerKeys;
use crate::id::TenantId;

mod facts;
mod rehearsal;

pub use rehearsal::{InvalidRehearsalKeys, RehearsalIssuer};

/// Every entry of `issuers.toml`. A token leads to one of them at most: none is ever tried.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Routes {
    /// Issuers whose name the policy says, by `iss`, to the letter, in the order in which they are written. The seed is random: nobody can choose names that
    /// collide.
    issuers: IndexMap<Box<str>, Arc<IssuerRoute>, RandomState>,
    /// Tenants of a cloud, whose issuers' names only their own documents tell.
    clouds: IndexMap<TenantId, Arc<CloudRoute>, RandomState>,
}

/// The way that a token took, by identity: it leads to the same verdicts for as long as it is in force.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// That of an issuer by its name.
    Issuer(Arc<IssuerRoute>),
    /// That of a tenant of a cloud.
    Cloud(Arc<CloudRoute>),
}

/// What an entry asks of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `aud` must name one of these, to the letter.
    pub(super) audiences: Vec<Box<str>>,
    /// The algorithms that its keys may be for.
    pub(super) algorithms: Vec<Algorithm>,
    /// What `typ` must be; none if either type will do, or no word about it.
    pub(super) typ: Option<TokenType>,
    pub(super) claims: ClaimNames,
}

/// What a value of `iss` leads to.
#[derive(Debug, PartialEq)]
pub(super) struct IssuerRoute {
    /// The value.
    pub(super) issuer: Box<str>,
    pub(super) rules: Arc<Rules>,
    /// The tenants that this issuer may speak for, each with its keys: one, where the issuer's name holds the tenant.
    pub(super) tenants: Vec<(TenantId, IssuerKeys)>,
}

/// What a tenant of a cloud leads to.
#[derive(Debug, PartialEq)]
pub(super) struct CloudRoute {
    pub(super) tenant: TenantId,
    /// Where the tenant signs in.
    pub(super) login: LoginHost,
    pub(super) rules: Arc<Rules>,
    /// For tokens of version 1.0.
    pub(super) v1: IssuerKeys,
    /// For tokens of version 2.0.
    pub(super) v2: IssuerKeys,
}

/// Where a token led, and on which way.
pub(super) struct Judge<'a> {
    pub(super) route: Route,
    pub(super) rules: &'a Rules,
    pub(super) tenant: TenantId,
    pub(super) keys: &'a IssuerKeys,
}

/// A second entry for the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken;

// === impl Routes ===

impl Routes {
    /// Adds an issuer. One `iss` has one route, so that no token has two entries to be judged by.
    pub(super) fn add_issuer(&mut self, route: IssuerRoute) -> Result<(), Taken> {
        if self.issuers.contains_key(&route.issuer) {
            return Err(Taken);
        }
        self.issuers.insert(route.issuer.clone(), Arc::new(route));
        Ok(())
    }

    /// Whether an issuer may speak for this tenant.
    pub(super) fn have(&self, tenant: &TenantId) -> bool {
        let mut others = self.issuers.values().flat_map(|route| &route.tenants);
        self.clouds.contains_key(tenant) || others.any(|(other, _)| other == tenant)
    }

    /// Adds a tenant of a cloud.
    pub(super) fn add_cloud(&mut self, route: CloudRoute) -> Result<(), Taken> {
        if self.clouds.contains_key(&route.tenant) {
            return Err(Taken);
        }
        self.clouds.insert(route.tenant, Arc::new(route));
        Ok(())
    }

    /// These routes, each of which that judges as one of `previous` does being that very one: what rests on it stays.
    pub(super) fn following(mut self, previous: Option<&Arc<Self>>) -> Arc<Self> {
        let Some(previous) = previous else { return Arc::new(self) };
        if self == **previous {
            return previous.clone();
        }
        for (issuer, route) in &mut self.issuers {
            keep(route, previous.issuers.get(issuer));
        }
        for (tenant, route) in &mut self.clouds {
            keep(route, previous.clouds.get(tenant));
        }
        Arc::new(self)
    }

    /// Whether a token that took `route` would take this very one again.
    pub(super) fn lead_by(&self, route: &Route) -> bool {
        match route {
            Route::Issuer(route) => {
                self.issuers.get(&route.issuer).is_some_and(|ours| Arc::ptr_eq(ours, route))
            }
            Route::Cloud(route) => {
                self.clouds.get(&route.tenant).is_some_and(|ours| Arc::ptr_eq(ours, route))
            }
        }
    }

    /// The issuers whose name the policy says.
    pub(super) fn written(&self) -> impl Iterator<Item = &str> {
        self.issuers.keys().map(|iss| &**iss)
    }

    /// Finds the entry by `iss` and the tenant; among the two issuers of a tenant of a cloud by `ver`, and then it is for
    /// the keys to know whether `iss` is right.
    pub(super) fn find(&self, claims: &Claims<'_>) -> Result<Judge<'_>, TokenError> {
        if let Some(route) = self.issuers.get(claims.issuer()?) {
            let IssuerRoute { rules, tenants, .. } = &**route;
            let found = match claims.tenant(&rules.claims)? {
                Some(named) => tenants.iter().find(|(tenant, _)| *tenant == named),
                None => tenants.first(),
            };
            let (tenant, keys) = found.ok_or(TokenError::WrongIssuer)?;
            return Ok(Judge { route: Route::Issuer(route.clone()), rules, tenant: *tenant, keys });
        }
        let tenant = claims.tenant(&ENTRA)?.ok_or(TokenError::WrongIssuer)?;
        let route = self.clouds.get(&tenant).ok_or(TokenError::WrongIssuer)?;
        let CloudRoute { rules, v1, v2, .. } = &**route;
        let keys = match claims.version(&ENTRA)? {
            Some(Version::V1) => v1,
            Some(Version::V2) => v2,
            None => return Err(TokenError::WrongIssuer),
        };
        Ok(Judge { route: Route::Cloud(route.clone()), rules, tenant, keys })
    }
}

/// Keeps `before` in the place of a route that is the same.
fn keep<T: PartialEq>(route: &mut Arc<T>, before: Option<&Arc<T>>) {
    if let Some(before) = before.filter(|before| **before == *route) {
        *route = before.clone();
    }
}

// === impl Rules ===

impl Rules {
    /// What the entry asks of a header, before any key is looked for.
    pub(super) fn check(&self, header: &Header<'_>) -> Result<(), Flaw> {
        if let Some(typ) = self.typ.filter(|typ| header.typ != Some(*typ)) {
            return Err(Flaw::OtherType(typ.as_str()));
        }
        if self.algorithms.contains(&header.algorithm) { Ok(()) } else { Err(Flaw::Algorithm) }
    }
}
