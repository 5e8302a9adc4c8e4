//! The names of things: what a room may say of another room's nouns without knowing their types.
//!
//! Entra's ids are GUIDs and are kept as 128-bit numbers; names from policy files are shared strings,
//! cheap to clone and compared by their text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

mod action;
mod device;

pub use action::ActionId;
pub use device::{DeviceId, DeviceRef, plain_name};

/// A word that should have been an id and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

/// Declares a newtype over a GUID, written with hyphens or without, in either case.
macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The id as the number that it is.
            pub const fn from_u128(number: u128) -> Self {
                Self(Uuid::from_u128(number))
            }

            /// The sixteen bytes of the id, most significant first.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The 36 characters that it prints as, written into `buffer`.
            pub fn text<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
                self.0.as_hyphenated().encode_lower(buffer)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Reads the two forms that Entra and the API print: 36 characters with hyphens, or 32 without.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId { text: excerpt(text), expected: "a GUID" };
                if text.len() != 36 && text.len() != 32 {
                    return Err(invalid());
                }
                Uuid::try_parse(text).map(Self).map_err(|_| invalid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// Declares a newtype over a name that a policy file gives: text that is shared, cheap to clone, and compared as text.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Compared, ordered and hashed as its text is, so that text finds it in a map.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

/// Declares a newtype over a name of any text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        text! { $(#[$doc])* $name }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

guid! {
    /// An Entra tenant: the claim `tid`.
    TenantId
}
guid! {
    /// An application registration: the claim `appid` (v1 tokens) or `azp` (v2 tokens).
    ApplicationId
}
guid! {
    /// The object id of a user: the claim `oid` of a user token.
    UserId
}
guid! {
    /// The object id of an Entra group: an element of the claim `groups`.
    EntraGroupId
}
guid! {
    /// A device's id in Entra (`aadDeviceId`), which is not its id in Defender.
    EntraDeviceId
}
guid! {
    /// One request as Tollgate counts it: `target` of our errors, `X-Request-Id` at the upstream, `request_id` in the audit.
    RequestId
}

impl RequestId {
    /// A new one, from a generator that nobody can predict: the system seeds it, and is not asked each time.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

text! {
    /// A call of the API, by the name that `operations.toml` gives it: 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// It is also the name of the operation's documented limit, which goes out in the headers `RateLimit-Policy` and
    /// `RateLimit` (strings of RFC 9651, which hold neither `"` nor `\` nor anything but ASCII), and a label of metrics.
    OperationId
}

impl OperationId {
    /// It goes out with every answer, once for each window.
    const MAX_LENGTH: usize = 64;
}

/// A word that cannot be an operation's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a name of an operation: 1 to {} letters, digits, `-`, `_` and `.`, as headers and labels carry it",
    OperationId::MAX_LENGTH
)]
pub struct InvalidOperationId {
    text: String,
}

impl FromStr for OperationId {
    type Err = InvalidOperationId;

    fn from_str(text: &str) -> Result<Self, InvalidOperationId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(plain) {
            return Err(InvalidOperationId { text: excerpt(text) });
        }
        Ok(Self(text.into()))
    }
}

name! {
    /// A permission as tokens carry it in `roles` or `scp`, such as `Machine.CollectForensics`. Compared to the letter.
    Permission
}
name! {
    /// A device group, by its name in `device-groups.toml`.
    DeviceGroupId
}
name! {
    /// A limit, by its name in `limits.toml` or, for a documented limit, the operation's.
    LimitName
}
name! {
    /// A role, by its name in `roles.toml`.
    RoleName
}
name! {
    /// An application of `applications.toml`, by its name there.
    ApplicationName
}

/// The GUID that the text spells in one of the forms in which .NET reads one: 36 characters with hyphens (`D`), the same
/// in braces (`B`) or parentheses (`P`), or 32 without hyphens (`N`).
fn guid(text: &str) -> Option<Uuid> {
    let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    let hyphenated = inside('{', '}').or_else(|| inside('(', ')'));
    let plain = match hyphenated {
        Some(inner) => inner.len() == 36,
        None => text.len() == 36 || text.len() == 32,
    };
    if plain { Uuid::try_parse(hyphenated.unwrap_or(text)).ok() } else { None }
}

/// At most the first 80 characters of a word that is about to be quoted in an error.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_two_forms_and_no_others() {
        assert!("1b730954-1685-4b74-9bfd-dac224a7b894".parse::<TenantId>().is_ok());
        assert!("1B73095416854B749BFDDAC224A7B894".parse::<TenantId>().is_ok());
        assert!("{1b730954-1685-4b74-9bfd-dac224a7b894}".parse::<TenantId>().is_err());
        assert!("urn:uuid:1b730954-1685-4b74-9bfd-dac224a7b894".parse::<TenantId>().is_err());
    }

    #[test]
    fn an_operations_name_is_what_a_header_can_carry() {
        for name in ["collect", "a", "v1.0_x-y", &"x".repeat(64)] {
            assert_eq!(name.parse::<OperationId>().unwrap().as_str(), name);
        }
        for text in ["", "a b", "a\"b", "a\\b", "ä", "a\n", "a;b", &"x".repeat(65)] {
            let error = text.parse::<OperationId>().unwrap_err().to_string();
            assert!(error.contains("1 to 64 letters, digits, `-`, `_` and `.`"), "{text}: {error}");
        }
    }
}
