//! The names of things: what a room may say of another room's nouns without knowing their types.
//!
//! Entra's ids are GUIDs and are kept as 128-bit numbers; names from policy files are shared strings,
//! cheap to clone and compared by their text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

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

/// A device's id in Defender: 40 hexadecimal digits, in a few old devices 32, without regard to case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    bytes: [u8; 20],
    /// 20, or 16 for an id of 32 digits.
    length: u8,
}

impl DeviceId {
    /// The bytes that the digits spell, 20 or 16 of them.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    /// The digits that it prints as, written into `buffer`.
    pub fn text<'b>(&self, buffer: &'b mut [u8; 40]) -> &'b str {
        // Written at once: every audit line and every refusal has some.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
        for ([high, low], byte) in buffer.as_chunks_mut().0.iter_mut().zip(self.as_bytes()) {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0xf));
        }
        let text = buffer.get(..self.as_bytes().len() * 2).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The id that the text spells; none if it spells none, as most names of devices do.
    fn read(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 40 && digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            let (high, low) = (char::from(high).to_digit(16)?, char::from(low).to_digit(16)?);
            *byte = (high * 16 + low) as u8;
        }
        Some(Self { bytes, length: (digits.len() / 2) as u8 })
    }
}

impl FromStr for DeviceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::read(text).ok_or_else(|| InvalidId {
            text: excerpt(text),
            expected: "a device id of 40 (or 32) hexadecimal digits",
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 40]))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A device as a call names it: the API takes any of the three and so do we. None is looked up yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DeviceRef {
    /// By its id in Defender.
    Id(DeviceId),
    /// By its id in Entra.
    Entra(EntraDeviceId),
    /// By its DNS name, in lower case.
    Name(Arc<str>),
}

impl DeviceRef {
    /// Reads what stands where the API wants a device. Whatever is not one of the two ids is a name: the
    /// inventory, not this function, says whether there is such a device.
    pub fn parse(text: &str) -> Self {
        if let Some(id) = DeviceId::read(text) {
            return Self::Id(id);
        }
        // 32 bare digits are an old device id, so only the hyphenated form is an Entra id.
        if text.len() == 36
            && let Ok(id) = text.parse()
        {
            return Self::Entra(id);
        }
        Self::Name(text.to_lowercase().into())
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => fmt::Display::fmt(id, f),
            Self::Entra(id) => fmt::Display::fmt(id, f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A machine action, by the id the API gave it: a GUID, or 40 hexadecimal digits in some answers. Kept as text in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActionId(Arc<str>);

impl ActionId {
    /// The longest id we keep: ids are 36 or 40 characters long, and what is longer is nobody's.
    const MAX_LENGTH: usize = 64;

    /// Reads an action id; `None` if it is empty or too long to be one.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= Self::MAX_LENGTH).then(|| Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// At most the first 80 characters of a word that is about to be quoted in an error.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_id_entra_id_or_name_in_either_case() {
        let id = "FB9AB6BE3965095A09C057BE7C90F0A2FB9AB6BE";
        let DeviceRef::Id(parsed) = DeviceRef::parse(id) else { panic!("not an id") };
        assert_eq!(parsed.to_string(), id.to_lowercase());
        assert_eq!(DeviceRef::parse("fb9ab6be3965095a09c057be7c90f0a2").to_string().len(), 32);
        assert!(matches!(DeviceRef::parse("7B0C1F2E-0000-0000-0000-000000000001"), DeviceRef::Entra(_)));
        assert_eq!(DeviceRef::parse("PC-1.Contoso.com"), DeviceRef::Name("pc-1.contoso.com".into()));
        assert_eq!(DeviceRef::parse(&"g".repeat(40)), DeviceRef::Name("g".repeat(40).into()));
    }

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
