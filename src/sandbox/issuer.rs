//! Entra's issuer as its clients see it: discovery, keys, and tokens for client credentials.
//!
//! The form of a token is the resource's choice, not the client's: Defender's API takes v1 tokens, so every token of
//! the token endpoint is v1, though that endpoint is called v2.0. Tokens of the v2 form are made by
//! [`Issuer::token`] alone. (Sources: Entra's *access tokens* and *access token claims reference*; RFC 6749,
//! sections 4.4 and 5.2; OpenID Connect Discovery 1.0.)
//!
//! Issuer names derive from one base, whatever address was asked: `{base}/{tid}/` for v1 and `{base}/{tid}/v2.0` for
//! v2. Make it the https address, so that an OpenID client finds the issuer that it asked for; the gateway
//! may then fetch the same documents over http on loopback.

mod caller;
mod endpoint;
mod signer;

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};

use crate::id::TenantId;
use crate::time::Clock;

pub use crate::sandbox::issuer::caller::{Caller, TokenVersion};
pub use crate::sandbox::issuer::endpoint::Registration;
pub(crate) use crate::sandbox::issuer::signer::Signer;
pub use crate::sandbox::issuer::signer::SignerError;

/// The stand-in for Entra: one key, one tenant, its registered applications.
#[derive(Debug)]
pub struct Issuer {
    base: String,
    tenant: TenantId,
    registrations: Vec<Registration>,
    signer: Signer,
    clock: Clock,
}

// === impl Issuer ===

impl Issuer {
    /// An issuer of a tenant with a new key. `base` is a URL without a path or a slash at its end, such as
    /// `https://localhost:9443`.
    ///
    /// # Errors
    ///
    /// If no RSA key can be made.
    pub fn new(
        base: impl Into<String>,
        tenant: TenantId,
        registrations: Vec<Registration>,
        clock: Clock,
    ) -> Result<Arc<Self>, SignerError> {
        let signer = Signer::generate()?;
        Ok(Arc::new(Self { base: base.into(), tenant, registrations, signer, clock }))
    }

    /// Discovery, keys and the token endpoint. The URLs in the documents begin with `address`, where this router is
    /// served; the issuer in them is the same at every address.
    pub fn router(self: &Arc<Self>, address: impl Into<String>) -> Router {
        endpoint::router(self.clone(), address.into())
    }

    /// The claim `iss` of a token, with `{tid}` in the place of the tenant.
    pub fn issuer_template(&self, version: TokenVersion) -> String {
        match version {
            TokenVersion::V1 => format!("{}/{{tid}}/", self.base),
            TokenVersion::V2 => format!("{}/{{tid}}/v2.0", self.base),
        }
    }

    /// The claim `iss` of a token of a tenant.
    pub fn issuer_of(&self, tenant: TenantId, version: TokenVersion) -> String {
        self.issuer_template(version).replace("{tid}", &tenant.to_string())
    }

    /// A signed token of a caller, valid from now.
    pub fn token(&self, caller: &Caller) -> String {
        self.sign(&self.claims(caller))
    }

    /// The claims of a caller's token, to be changed before they are [signed](Self::sign).
    pub fn claims(&self, caller: &Caller) -> Value {
        let iss = self.issuer_of(caller.tenant().unwrap_or(self.tenant), caller.version());
        Value::Object(caller.claims(&iss, self.tenant, self.clock.wall()))
    }

    /// Signs claims as they are, whatever they say: RS256, with the header of a v1 token.
    pub fn sign(&self, claims: &Value) -> String {
        self.signer.sign(claims)
    }

    /// The key set, as one of the key endpoints gives it: each key says whose tokens it signs, with `{tenantid}` in
    /// the place of the tenant as in Entra's common set.
    pub fn key_set(&self, version: TokenVersion) -> Value {
        let issuer = self.issuer_template(version).replace("{tid}", "{tenantid}");
        json!({ "keys": [self.signer.jwk(&issuer)] })
    }
}

#[cfg(test)]
mod tests;
