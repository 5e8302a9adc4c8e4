//! Microsoft's clouds: what a policy need not say of Entra (*Use the Microsoft Defender for Endpoint APIs*, *Exposed
//! APIs list*; *Microsoft Defender for Endpoint for US Government customers*).
//!
//! A preset pins the login host and asks it for two discovery documents of each tenant, one for tokens of version 1.0
//! and one for 2.0. The name of the issuer (`iss`) is what the document says, since Microsoft documents it for the
//! commercial cloud alone. That is safe: whoever could change the document, fetched by https from the pinned
//! host at an address that names the tenant, could as well put its own keys there. It is held to a form nevertheless, so
//! that a proxy's page or a host that serves another tenant is found out before a token is: an https URL with the tenant
//! in its path, of the login host itself or of the token service (`sts.`) in one of Entra's domains.

use reqwest::Url;

use crate::id::TenantId;

/// One cloud.
#[derive(Debug)]
pub(super) struct Cloud {
    /// The word for it in `issuers.toml`.
    pub(super) name: &'static str,
    pub(super) login: LoginHost,
    /// The audiences of Defender's API there.
    pub(super) audiences: &'static [&'static str],
}

/// Where a cloud's users and applications sign in, as the beginning of a URL without a slash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoginHost(pub(super) &'static str);

/// Where an application asks for a token for Defender's API, and what for (*Create an app to access Microsoft Defender
/// for Endpoint without a user*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    /// The token endpoint of the tenant (RFC 6749, section 3.2).
    pub endpoint: String,
    /// The API as Entra names it, which is also an address of it. With `/.default` behind it is the `scope`.
    pub resource: &'static str,
}

/// An issuer's name that Entra would not give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImplausibleIssuer {
    #[error("it is not a URL of https in its plain form")]
    NotPlain,
    #[error("its host is neither the login host nor the token service of an Entra domain")]
    Host,
    #[error("its path does not name the tenant")]
    Tenant,
}

/// The clouds that have Defender's API. China's has none that Microsoft documents.
pub(super) static CLOUDS: [Cloud; 4] = [
    Cloud {
        name: "commercial",
        login: LoginHost("https://login.microsoftonline.com"),
        audiences: &[
            // What the documentation's requests ask for, with and without the slash that clients add.
            "https://api.securitycenter.microsoft.com",
            "https://api.securitycenter.microsoft.com/",
            // The older name, which many clients still ask for.
            "https://api.securitycenter.windows.com",
            "https://api.securitycenter.windows.com/",
            // What the documentation's curl example asks for.
            "https://securitycenter.onmicrosoft.com/windowsatpservice",
            // The API's own application, WindowsDefenderATP: the audience of every v2 token.
            "fc780465-2017-40d4-a0c5-307022471b92",
        ],
    },
    Cloud {
        name: "gcc",
        login: LoginHost("https://login.microsoftonline.com"),
        audiences: &[
            "https://api-gcc.securitycenter.microsoft.us",
            "https://api-gcc.securitycenter.microsoft.us/",
        ],
    },
    Cloud {
        name: "gcc-high",
        login: LoginHost("https://login.microsoftonline.us"),
        audiences: GOV_AUDIENCES,
    },
    Cloud { name: "dod", login: LoginHost("https://login.microsoftonline.us"), audiences: GOV_AUDIENCES },
];

/// Of GCC High and DoD, which have one API host.
const GOV_AUDIENCES: &[&str] =
    &["https://api-gov.securitycenter.microsoft.us", "https://api-gov.securitycenter.microsoft.us/"];

/// The domains in which `sts` is Entra's token service.
const ENTRA_DOMAINS: [&str; 3] = ["windows.net", "microsoftonline.com", "microsoftonline.us"];

/// The names of the clouds.
pub fn clouds() -> impl Iterator<Item = &'static str> + Clone {
    CLOUDS.iter().map(|cloud| cloud.name)
}

/// Where an application of this tenant asks for its token; none if there is no such cloud.
pub fn token_source(cloud: &str, tenant: TenantId) -> Option<TokenSource> {
    let cloud = CLOUDS.iter().find(|known| known.name == cloud)?;
    let endpoint = format!("{}/{tenant}/oauth2/v2.0/token", cloud.login.0);
    Some(TokenSource { endpoint, resource: cloud.audiences.first()? })
}

// === impl LoginHost ===

impl LoginHost {
    /// The host, without a scheme.
    pub(super) fn host(self) -> String {
        self.0.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The address of a tenant's discovery document for tokens of version 1.0.
    pub(super) fn v1_document(self, tenant: TenantId) -> String {
        format!("{}/{tenant}/.well-known/openid-configuration", self.0)
    }

    /// The same for version 2.0.
    pub(super) fn v2_document(self, tenant: TenantId) -> String {
        format!("{}/{tenant}/v2.0/.well-known/openid-configuration", self.0)
    }

    /// What Entra calls itself in tokens of version 1.0, as far as is known without asking it: its token service has one
    /// name in all clouds that have Defender's API.
    pub(super) fn v1_issuer(self, tenant: TenantId) -> String {
        format!("https://sts.windows.net/{tenant}/")
    }

    /// The same in tokens of version 2.0: by the host's own name.
    pub(super) fn v2_issuer(self, tenant: TenantId) -> String {
        format!("{}/{tenant}/v2.0", self.0)
    }

    /// Whether Entra at this host may be called so by a document of the tenant. See the module for the rule.
    pub(super) fn check_issuer(self, issuer: &str, tenant: TenantId) -> Result<(), ImplausibleIssuer> {
        let url = Url::parse(issuer).map_err(|_| ImplausibleIssuer::NotPlain)?;
        let host = url.host_str().ok_or(ImplausibleIssuer::NotPlain)?;
        // A plain URL is its scheme, host and path, to the letter: no user, port, query, fragment or second spelling.
        if issuer != format!("https://{host}{}", url.path()) {
            return Err(ImplausibleIssuer::NotPlain);
        }
        let login = Url::parse(self.0).is_ok_and(|login| login.host_str() == Some(host));
        let domain = host.strip_prefix("sts.");
        if !login && !domain.is_some_and(|domain| ENTRA_DOMAINS.contains(&domain)) {
            return Err(ImplausibleIssuer::Host);
        }
        let tenant = tenant.to_string();
        if !url.path().split('/').any(|segment| segment == tenant) {
            return Err(ImplausibleIssuer::Tenant);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
