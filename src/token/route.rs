//! From what a token says of its issuer to the one entry of the policy that judges it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::algorithm::Algorithm;
use super::claims::names::{ClaimNames, ENTRA};
use super::claims::{Claims, Version};
use super::error::{Flaw, TokenError};
use super::jws::{Header, TokenType};
use super::ring::IssuerKeys;
use crate::id::TenantId;

/// Every entry of `issuers.toml`. A token leads to one of them at most: none is ever tried.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Routes {
    /// Issuers whose name the policy says, by `iss`, to the letter.
    issuers: HashMap<Box<str>, IssuerRoute>,
    /// Tenants of a cloud, whose issuers' names only their own documents tell.
    clouds: HashMap<TenantId, CloudRoute>,
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
struct IssuerRoute {
    rules: Arc<Rules>,
    /// The tenants that this issuer may speak for, each with its keys: one, where the issuer's name holds the tenant.
    tenants: Vec<(TenantId, IssuerKeys)>,
}

/// What a tenant of a cloud leads to.
#[derive(Debug, PartialEq)]
struct CloudRoute {
    rules: Arc<Rules>,
    v1: IssuerKeys,
    v2: IssuerKeys,
}

/// Where a token led.
pub(super) struct Judge<'a> {
    pub(super) rules: &'a Rules,
    pub(super) tenant: TenantId,
    pub(super) keys: &'a IssuerKeys,
}

/// A second entry for the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken;

// === impl Routes ===

impl Routes {
    /// Adds a tenant of an issuer. One `iss` has one set of rules, so that no token has two entries to be judged by.
    pub(super) fn add_issuer(
        &mut self,
        iss: String,
        rules: &Arc<Rules>,
        tenant: (TenantId, IssuerKeys),
    ) -> Result<(), Taken> {
        let route = self
            .issuers
            .entry(iss.into())
            .or_insert_with(|| IssuerRoute { rules: rules.clone(), tenants: Vec::new() });
        if !Arc::ptr_eq(&route.rules, rules) {
            return Err(Taken);
        }
        route.tenants.push(tenant);
        Ok(())
    }

    /// Adds a tenant of a cloud, with the keys for tokens of version 1.0 and of 2.0.
    pub(super) fn add_cloud(
        &mut self,
        tenant: TenantId,
        rules: &Arc<Rules>,
        [v1, v2]: [IssuerKeys; 2],
    ) -> Result<(), Taken> {
        match self.clouds.entry(tenant) {
            Entry::Occupied(_) => Err(Taken),
            Entry::Vacant(entry) => {
                entry.insert(CloudRoute { rules: rules.clone(), v1, v2 });
                Ok(())
            }
        }
    }

    /// The issuers whose name the policy says, with their tenants.
    pub(super) fn written(&self) -> impl Iterator<Item = (&str, TenantId)> {
        let tenants =
            |route: &IssuerRoute| route.tenants.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>();
        self.issuers
            .iter()
            .flat_map(move |(iss, route)| tenants(route).into_iter().map(|tenant| (&**iss, tenant)))
    }

    /// Finds the entry by `iss` and the tenant; among the two issuers of a tenant of a cloud by `ver`, and then it is for
    /// the keys to know whether `iss` is right.
    pub(super) fn find(&self, claims: &Claims<'_>) -> Result<Judge<'_>, TokenError> {
        if let Some(IssuerRoute { rules, tenants }) = self.issuers.get(claims.issuer()?) {
            let found = match claims.tenant(&rules.claims)? {
                Some(named) => tenants.iter().find(|(tenant, _)| *tenant == named),
                None => tenants.first(),
            };
            let (tenant, keys) = found.ok_or(TokenError::WrongIssuer)?;
            return Ok(Judge { rules, tenant: *tenant, keys });
        }
        let tenant = claims.tenant(&ENTRA)?.ok_or(TokenError::WrongIssuer)?;
        let CloudRoute { rules, v1, v2 } = self.clouds.get(&tenant).ok_or(TokenError::WrongIssuer)?;
        let keys = match claims.version(&ENTRA)? {
            Some(Version::V1) => v1,
            Some(Version::V2) => v2,
            None => return Err(TokenError::WrongIssuer),
        };
        Ok(Judge { rules, tenant, keys })
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
