//! Whom a token is for, and the claims that Entra would give it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::id::{ApplicationId, EntraGroupId, TenantId, UserId};
use crate::time::Wall;

/// The form of a token, which the resource chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenVersion {
    /// `ver` 1.0: `appid`, `upn`, an audience that is a URI. What Defender's API gets.
    #[default]
    V1,
    /// `ver` 2.0: `azp`, `preferred_username`, an audience that is a GUID.
    V2,
}

/// A caller, and what its tokens say. Built up from [`application`](Self::application) or [`user`](Self::user).
///
/// ```
/// # use tollgate::id::{ApplicationId, EntraGroupId, UserId};
/// # use tollgate::sandbox::issuer::Caller;
/// let analyst = Caller::user(UserId::from_u128(7), "analyst@contoso.example", ApplicationId::from_u128(1))
///     .permissions(["Machine.CollectForensics"])
///     .groups([EntraGroupId::from_u128(9)]);
/// ```
#[derive(Debug, Clone)]
pub struct Caller {
    application: ApplicationId,
    user: Option<User>,
    tenant: Option<TenantId>,
    version: TokenVersion,
    audience: Option<String>,
    permissions: Vec<String>,
    groups: Groups,
    lifetime: Duration,
    claims: Map<String, Value>,
}

#[derive(Debug, Clone)]
struct User {
    id: UserId,
    name: String,
}

/// How a token tells the groups of its caller.
#[derive(Debug, Clone)]
enum Groups {
    Listed(Vec<EntraGroupId>),
    Overage,
}

/// The audience of v1 tokens for Defender's API.
pub(crate) const AUDIENCE_V1: &str = "https://api.securitycenter.microsoft.com";
/// The audience of v2 tokens: the API's own application id.
pub(crate) const AUDIENCE_V2: &str = "fc780465-2017-40d4-a0c5-307022471b92";

// === impl Caller ===

impl Caller {
    /// Entra's `expires_in` for an hour's token: 3599 seconds.
    pub const LIFETIME: Duration = Duration::from_secs(3_599);

    /// An application on its own, as client credentials make it. It has no permissions yet.
    pub fn application(application: ApplicationId) -> Self {
        Self {
            application,
            user: None,
            tenant: None,
            version: TokenVersion::V1,
            audience: None,
            permissions: Vec::new(),
            groups: Groups::Listed(Vec::new()),
            lifetime: Self::LIFETIME,
            claims: Map::new(),
        }
    }

    /// A user who came through an application; `name` is the user principal name.
    pub fn user(user: UserId, name: &str, through: ApplicationId) -> Self {
        Self { user: Some(User { id: user, name: name.into() }), ..Self::application(through) }
    }

    /// The permissions: `roles` of an application, `scp` of a user.
    #[must_use]
    pub fn permissions<'a>(mut self, permissions: impl IntoIterator<Item = &'a str>) -> Self {
        self.permissions = permissions.into_iter().map(str::to_owned).collect();
        self
    }

    /// The Entra groups; the claim is left out if there are none.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = EntraGroupId>) -> Self {
        self.groups = Groups::Listed(groups.into_iter().collect());
        self
    }

    /// More groups than a token holds: it says where to ask for them instead.
    #[must_use]
    pub fn group_overage(mut self) -> Self {
        self.groups = Groups::Overage;
        self
    }

    /// A tenant other than the issuer's.
    #[must_use]
    pub fn in_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The form of the token, v1 by default.
    #[must_use]
    pub fn of_version(mut self, version: TokenVersion) -> Self {
        self.version = version;
        self
    }

    /// An audience other than that of Defender's API.
    #[must_use]
    pub fn for_audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// How long the token is valid, [`LIFETIME`](Self::LIFETIME) by default.
    #[must_use]
    pub fn valid_for(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// A further claim, or another value for one; `null` leaves it out.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    pub(crate) fn version(&self) -> TokenVersion {
        self.version
    }

    /// The application that calls, or that the user came through.
    pub fn application_id(&self) -> ApplicationId {
        self.application
    }

    /// The claims of a token issued at `now`.
    pub(crate) fn claims(&self, iss: &str, home: TenantId, now: Wall) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| {
            claims.insert(name.into(), value);
        };
        let issued = now.unix_seconds();
        let application = self.application.to_string();
        set("aud", json!(self.audience()));
        set("iss", json!(iss));
        set("iat", json!(issued));
        set("nbf", json!(issued));
        set("exp", json!((now + self.lifetime).unix_seconds()));
        set("tid", json!(self.tenant.unwrap_or(home).to_string()));
        set("uti", json!(URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())));
        let (party, method, version) = match self.version {
            TokenVersion::V1 => ("appid", "appidacr", "1.0"),
            TokenVersion::V2 => ("azp", "azpacr", "2.0"),
        };
        set("ver", json!(version));
        set(party, json!(application));
        match &self.user {
            None => {
                // The service principal's object id is another GUID than the application's, but as steady.
                let principal = Uuid::from_bytes(*self.application.as_bytes()).as_u128() ^ u128::MAX;
                let principal = Uuid::from_u128(principal).to_string();
                set(method, json!("1"));
                set("oid", json!(principal));
                set("sub", json!(principal));
                set("roles", json!(self.permissions));
                if self.version == TokenVersion::V1 {
                    set("idp", json!(iss));
                }
            }
            Some(user) => {
                // "0": the user's application is a public client.
                set(method, json!("0"));
                set("oid", json!(user.id.to_string()));
                set("sub", json!(URL_SAFE_NO_PAD.encode(user.id.as_bytes())));
                set("name", json!(user.name));
                set("scp", json!(self.permissions.join(" ")));
                match self.version {
                    TokenVersion::V1 => {
                        set("amr", json!(["pwd", "mfa"]));
                        set("unique_name", json!(user.name));
                        set("upn", json!(user.name));
                    }
                    TokenVersion::V2 => set("preferred_username", json!(user.name)),
                }
            }
        }
        match &self.groups {
            Groups::Listed(groups) if groups.is_empty() => {}
            Groups::Listed(groups) => {
                set("groups", groups.iter().map(|group| group.to_string()).collect());
            }
            Groups::Overage => {
                let endpoint = format!("{iss}users/getMemberObjects");
                set("_claim_names", json!({ "groups": "src1" }));
                set("_claim_sources", json!({ "src1": { "endpoint": endpoint } }));
            }
        }
        for (name, value) in &self.claims {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        claims
    }

    fn audience(&self) -> &str {
        match (&self.audience, self.version) {
            (Some(audience), _) => audience,
            (None, TokenVersion::V1) => AUDIENCE_V1,
            (None, TokenVersion::V2) => AUDIENCE_V2,
        }
    }
}
