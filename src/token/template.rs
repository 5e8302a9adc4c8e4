//! The name of an issuer with a place for the tenant.

use crate::id::TenantId;

/// An issuer as a policy, a discovery document or a key writes it: fixed, or with `{tid}` (in Microsoft's own
/// documents `{tenantid}`) where the tenant's GUID belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Box<str>);

/// The placeholder as policies write it.
pub(super) const PLACEHOLDER: &str = "{tid}";

// === impl Template ===

impl Template {
    pub(super) fn new(text: &str) -> Self {
        Self(text.replace("{tenantid}", PLACEHOLDER).into())
    }

    /// The text for one tenant, whose GUID Entra writes in lower case with hyphens.
    pub(super) fn of(&self, tenant: TenantId) -> String {
        self.0.replace(PLACEHOLDER, &tenant.to_string())
    }

    /// The text with the placeholder in it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
