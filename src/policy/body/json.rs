//! Reads a JSON object without building it: only its own members are kept, but no object at any depth may have a
//! member twice. Nesting is bounded by serde_json's own 128 levels.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The members of the outermost object, in their order.
#[derive(Debug)]
pub(super) struct Object<'a> {
    members: Vec<(Cow<'a, str>, Member<'a>)>,
}

/// As much of a member's value as anybody asks.
#[derive(Debug)]
pub(super) enum Member<'a> {
    Null,
    Text(Cow<'a, str>),
    Other,
}

/// A string, borrowed from the text where it has no escapes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Text<'a>(Cow<'a, str>);

/// Reads a text that is one JSON object and nothing else.
pub(super) fn read(text: &str) -> Result<Object<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let object = Object::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

// === impl Object ===

impl Object<'_> {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Member<'_>> {
        self.members.iter().find_map(|(found, member)| (found == name).then_some(member))
    }

    /// The member of this name if it is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Member::Text(text) => Some(text),
            Member::Null | Member::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outermost;

        impl<'de> Visitor<'de> for Outermost {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                each_once(map, |name, member| members.push((name, member)))?;
                Ok(Object { members })
            }
        }

        deserializer.deserialize_map(Outermost)
    }
}

/// Hands over the members of a map, none of which may be there twice.
fn each_once<'de, A: MapAccess<'de>>(
    mut map: A,
    mut take: impl FnMut(Cow<'de, str>, Member<'de>),
) -> Result<(), A::Error> {
    let mut seen = HashSet::new();
    while let Some(Text(name)) = map.next_key()? {
        if !seen.insert(name.clone()) {
            let name: String = name.chars().take(80).collect();
            return Err(A::Error::custom(format_args!("the member `{name}` is there twice")));
        }
        let value = map.next_value()?;
        take(name, value);
    }
    Ok(())
}

// === impl Member ===

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
                Ok(Member::Null)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member<'de>, A::Error> {
                while items.next_element::<Member<'de>>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member<'de>, A::Error> {
                each_once(map, |_, _| {})?;
                Ok(Member::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Member::deserialize(deserializer)? {
            Member::Text(text) => Ok(Self(text)),
            Member::Null | Member::Other => Err(D::Error::custom("a member's name must be a string")),
        }
    }
}
