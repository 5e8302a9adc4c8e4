//! Machine actions and what they are called.

use std::fmt;
use std::sync::Arc;

use super::guid;

/// A machine action, by the id the API gave it: a GUID, or 40 hexadecimal digits in some answers. Kept as text in lower
/// case, a GUID with its hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActionId(Arc<str>);

impl ActionId {
    /// The longest id we keep: ids are 36 or 40 characters long, and what is longer is nobody's.
    const MAX_LENGTH: usize = 64;

    /// The lengths of a GUID with its hyphens and without: what is as long and is none could be one to another reader.
    const GUID_LENGTHS: [usize; 2] = [36, 32];

    /// Reads an action id, in whatever spelling of a GUID: the API reads them all, and one that we did not would have no
    /// known device. `None` if it is empty, too long to be one, or not made of what ids are made of.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(guid) = guid(text) {
            return Some(Self(guid.as_hyphenated().to_string().into()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let id = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && !Self::GUID_LENGTHS.contains(&text.len())
            && text.bytes().all(plain);
        id.then(|| Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_however_its_guid_is_spelt() {
        let plain = "5382f7ea-7557-4ab7-9782-d50480024a4e";
        for spelt in [
            plain.to_uppercase(),
            plain.replace('-', ""),
            format!("{{{plain}}}"),
            format!("({})", plain.to_uppercase()),
        ] {
            assert_eq!(ActionId::parse(&spelt).unwrap().to_string(), plain, "{spelt}");
        }
        let digits = "FB9AB6BE3965095A09C057BE7C90F0A2FB9AB6BE";
        assert_eq!(ActionId::parse(digits).unwrap().to_string(), digits.to_lowercase());
    }

    #[test]
    fn what_could_be_an_id_to_another_reader_only_is_none() {
        let plain = "5382f7ea-7557-4ab7-9782-d50480024a4e";
        for text in [
            "".to_owned(),
            "a".repeat(65),
            format!(" {plain}"),
            format!("{plain}\u{a0}"),
            format!("{{{plain}"),
            format!("{plain}}}"),
            format!("{{{plain})"),
            format!("{{{}}}", plain.replace('-', "")),
            format!("\"{plain}\""),
            format!("urn:uuid:{plain}"),
            "{0x5382f7ea,0x7557,0x4ab7,{0x97,0x82,0xd5,0x04,0x80,0x02,0x4a,0x4e}}".to_owned(),
            // .NET takes a sign or `0x` within a GUID.
            plain.replacen("53", "0x", 1),
            plain.replacen("53", "+0", 1),
        ] {
            assert_eq!(ActionId::parse(&text), None, "{text}");
        }
    }
}
