//! Devices and what they are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::{EntraDeviceId, InvalidId, excerpt, guid};

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

    /// The id in Entra that the same digits spell: .NET reads a GUID without its hyphens.
    pub fn as_entra(&self) -> Option<EntraDeviceId> {
        let bytes: [u8; 16] = self.as_bytes().try_into().ok()?;
        Some(EntraDeviceId(Uuid::from_bytes(bytes)))
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

/// A device as a call or an inventory names it: the API takes any of the three and so do we. None is looked up yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DeviceRef {
    /// By its id in Defender.
    Id(DeviceId),
    /// By its id in Entra.
    Entra(EntraDeviceId),
    /// By its DNS name, in lower case and without the dot of the root at its end.
    Name(Arc<str>),
}

impl DeviceRef {
    /// Reads what stands where the API wants a device, in whatever spelling: one that the API reads and we do not would
    /// take the device out of its group. Whatever is not one of the two ids is a name: the inventory, not this function,
    /// says whether there is such a device.
    pub fn parse(text: &str) -> Self {
        let text = plain_name(text);
        if let Some(id) = DeviceId::read(text) {
            return Self::Id(id);
        }
        // 32 bare digits are the id of an old device or of one in Entra: they stay an id that could be both.
        match guid(text) {
            Some(id) => Self::Entra(EntraDeviceId(id)),
            None => Self::Name(text.to_lowercase().into()),
        }
    }
}

impl DeviceRef {
    /// Whether it is a name that hardly a device has, and that a reader of ids might take for one: .NET's reads a GUID
    /// with signs and `0x` in it too, or as a list of numbers in braces.
    pub fn may_be_id(&self) -> bool {
        let Self::Name(name) = self else { return false };
        let like_digits = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'-');
        name.contains(['{', '}', '(', ')', ',', '+'])
            || (matches!(name.len(), 32 | 36 | 40) && name.bytes().all(like_digits))
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

/// What is said of a device by a text: without white space around it, as nothing is called, and the dot of the root at
/// its end (RFC 1034, section 3.1), with which a name is the same.
pub fn plain_name(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix('.').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_lenient_reader_takes_for_an_id_is_known_as_such() {
        let odd = [
            "0x0c1f2e-0000-0000-0000-000000000001",
            "{0x7b0c1f2e,0x0000,0x0000,{0x00,0x00,0x00,0x00,0x00,0x00,0x00,0x01}}",
            "+b0c1f2e-0000-0000-0000-000000000001",
            "0x9ab6be3965095a09c057be7c90f0a2",
        ];
        for text in odd {
            let padded = format!("{text:0<32}");
            assert!(DeviceRef::parse(&padded).may_be_id(), "{padded}: {:?}", DeviceRef::parse(&padded));
        }
        for text in ["pc-1.contoso.com", "fb9ab6be", "7b0c1f2e-0000-0000-0000-000000000001", "deadbeef.face"]
        {
            assert!(!DeviceRef::parse(text).may_be_id(), "{text}");
        }
    }

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
    fn a_device_that_is_spelt_otherwise_is_the_same_device() {
        let (id, entra) =
            ("fb9ab6be3965095a09c057be7c90f0a2fb9ab6be", "7b0c1f2e-0000-0000-0000-00000000000a");
        for (spelt, plain) in [
            (format!("{{{entra}}}"), entra),
            (format!("({})", entra.to_uppercase()), entra),
            (format!(" {entra}"), entra),
            (format!("{id} "), id),
            ("WS-1.Contoso.com.".to_owned(), "ws-1.contoso.com"),
            ("\tws-1.contoso.com. ".to_owned(), "ws-1.contoso.com"),
            ("ws-1.".to_owned(), "ws-1"),
        ] {
            assert_eq!(DeviceRef::parse(&spelt), DeviceRef::parse(plain), "{spelt}");
        }
        for other in ["ws-1..", ".ws-1", &format!("{{{entra}"), &format!("{{{entra})"), "{ws-1}", "."] {
            assert_eq!(
                DeviceRef::parse(other),
                DeviceRef::Name(other.strip_suffix('.').unwrap_or(other).into())
            );
        }
    }

    #[test]
    fn an_id_of_32_digits_could_be_one_in_entra() {
        let DeviceRef::Id(id) = DeviceRef::parse("7B0C1F2E00000000000000000000000a") else {
            panic!("not an id")
        };
        assert_eq!(id.as_entra(), Some("7b0c1f2e-0000-0000-0000-00000000000a".parse().unwrap()));
        assert_eq!("1".repeat(40).parse::<DeviceId>().unwrap().as_entra(), None);
    }
}
