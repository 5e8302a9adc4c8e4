//! The limit on failed logins: a `[[limit]]` that counts per address.

use std::num::NonZeroU32;

use toml::Spanned;

use super::{Compiler, LimitDocument};
use crate::id::LimitName;
use crate::limit::key::Dimension;
use crate::limit::logins::{ADDRESS_BYTES, FAILURE_BYTES, LoginQuota};
use crate::limit::window::{Bound, Bounds};

/// The addresses that are counted each by itself if `max_addresses` does not say: some 40 MB where each has used up
/// 60 failures, and more than a tenant's own networks have.
pub(super) const DEFAULT_MAX_ADDRESSES: NonZeroU32 = match NonZeroU32::new(100_000) {
    Some(addresses) => addresses,
    None => NonZeroU32::MIN,
};

/// 1 GiB: what the failures of all addresses may take, in bytes. They are strangers', and strangers decide how many
/// there are.
const MAX_BYTES: u64 = 1 << 30;

// === impl Compiler ===

impl Compiler<'_> {
    /// Compiles the `[[limit]]` per address. Its name and its `per` have been read.
    pub(super) fn failed_logins(&mut self, document: &LimitDocument) {
        let others = document.per.iter().filter(|dimension| *dimension.get_ref() != Dimension::Address);
        for other in others {
            let message = "a limit per `address` counts failed logins, and a refused token names nobody: nothing else can stand beside it";
            self.problems.at(self.source, other.span(), message);
        }
        if let Some(operations) = &document.operations {
            let message =
                "a limit per `address` counts failed logins, whatever the operation: leave `operations` out";
            self.problems.at(self.source, operations.span(), message);
        }
        if document.show == Some(true) {
            let message = "a limit per `address` counts failed logins, and nobody is shown how many are left: leave `show` out";
            self.at_name(document, message);
        }
        if document.enforce == Some(false) {
            let message = "a limit per `address` counts failed logins, and is enforced or not there: leave `enforce` out";
            self.at_name(document, message);
        }
        if self.logins.is_some() {
            self.at_name(
                document,
                "there is a limit per `address` above: one limit may have several windows",
            );
        }
        let others = [
            (
                "when_full",
                document.when_full.as_ref().filter(|word| word.get_ref().waits()).map(Spanned::span),
            ),
            ("share", document.share.as_ref().map(Spanned::span)),
            ("in_flight", document.in_flight.as_ref().map(Spanned::span)),
            ("open_actions", document.open_actions.as_ref().map(Spanned::span)),
            ("until", document.until.as_ref().map(Spanned::span)),
            ("margin", document.margin.as_ref().map(Spanned::span)),
            ("cost", document.cost.as_ref().map(Spanned::span)),
            ("open_for", document.open_for.as_ref().map(Spanned::span)),
        ];
        for (field, span) in others {
            if let Some(span) = span {
                let message = format!("a limit per `address` counts failed logins: leave `{field}` out");
                self.problems.at(self.source, span, message);
            }
        }
        let Some(windows) = &document.windows else {
            return self.at_name(document, "missing field `windows`");
        };
        let rates = self.rates(windows);
        let most = rates.iter().map(|rate| u64::from(rate.count.get())).max().unwrap_or(0);
        let bytes = u64::from(self.max_addresses.get()) * (ADDRESS_BYTES + most * FAILURE_BYTES);
        if bytes > MAX_BYTES {
            let message = format!(
                "{} addresses with {most} failures each would take {} MiB, more than {}: lower `max_addresses` or the count",
                self.max_addresses,
                bytes >> 20,
                MAX_BYTES >> 20
            );
            self.problems.at(self.source, windows.span(), message);
        }
        let name = LimitName::from(document.name.get_ref().as_str());
        let bounds = Bounds::new(rates.into_iter().map(Bound::from));
        self.logins = Some(LoginQuota { name, bounds, max_addresses: self.max_addresses });
    }

    fn at_name(&mut self, document: &LimitDocument, message: &str) {
        self.problems.at(self.source, Spanned::span(&document.name), message);
    }
}
