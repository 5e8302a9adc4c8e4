//! JSON in which every member of every object occurs once.
//!
//! `serde_json::Value` takes the last of two members of a name, other parsers the first: a token that means two
//! things is refused instead (RFC 8725, section 2.4; RFC 7519, section 4).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value, with its text borrowed from the source where that has no escapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// A number without fraction or exponent that fits.
    Integer(i64),
    /// Any other number. No claim that we read may be one.
    Number,
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// The members of an object, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// The name of a member, compared after its escapes are resolved.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

// === impl Object ===

impl<'a> Object<'a> {
    /// Reads `bytes` as one object and nothing else; none if it is anything else.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match serde_json::from_slice(bytes).ok()? {
            Json::Object(object) => Some(object),
            Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Number | Json::Text(_) | Json::List(_) => {
                None
            }
        }
    }

    /// The member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let index = self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name)).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }
}

// === impl Json ===

impl Json<'_> {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Number, Json::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = access.next_entry()? {
            members.push((name, value));
        }
        // Sorting keeps a hostile token of a thousand members at a thousand steps, not at a million.
        members.sort_unstable_by(|(a, _), (b, _): &(Cow<'de, str>, Json<'de>)| a.cmp(b));
        if members.array_windows().any(|[(a, _), (b, _)]| a == b) {
            return Err(A::Error::custom("duplicate member"));
        }
        Ok(Json::Object(Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_gives_its_members_by_name() {
        let object =
            Object::parse(br#"{"b":[1,-2,1.5,18446744073709551615],"a\u0062":"\u00e4","c":{}}"#).unwrap();
        assert_eq!(object.get("ab"), Some(&Json::Text("ä".into())));
        assert_eq!(
            object.get("b"),
            Some(&Json::List(vec![Json::Integer(1), Json::Integer(-2), Json::Number, Json::Number]))
        );
        assert_eq!((object.get("a"), object.get("d")), (None, None));
    }

    #[test]
    fn a_duplicate_member_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":3}"#,
            r#"{"x":{"y":[{"a":1,"a":2}]}}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(Object::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Object::parse(br#"{"a":{"a":1},"b":{"a":1},"A":1}"#).is_some());
    }

    #[test]
    fn only_one_object_in_utf_8_is_an_object() {
        for bytes in [
            &b""[..],
            b"[]",
            b"\"a\"",
            b"null",
            b"{} {}",
            b"{\"a\":1",
            b"{\"a\":NaN}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
        ] {
            assert_eq!(Object::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Object::parse(format!("{}{}", "{\"a\":".repeat(200), "}".repeat(200)).as_bytes()), None);
    }
}
