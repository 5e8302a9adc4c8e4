//! Reads a JSON object without building it: only the kinds and texts of its own members are kept, and the devices that
//! it names, but no object at any depth may have a member twice. Nesting is bounded by serde_json's own 128 levels.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::policy::body::{MemberKind, differs_only_in_case};

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
    Other(MemberKind),
}

/// What stands where the contract says that devices are named.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    /// Each device, as written.
    pub(super) devices: Vec<Cow<'a, str>>,
    /// Something there is no text, or a list within the list.
    pub(super) odd: bool,
    /// A member that is one of the way there but for case.
    pub(super) case: Option<String>,
}

/// Where a value stands, seen from the member that names devices.
#[derive(Debug, Clone, Copy)]
enum Place<'p> {
    /// On the way to it: these members lie between.
    Above(&'p [Box<str>]),
    /// In it: a device or a list of them.
    At,
    /// In its list.
    Within,
    /// Elsewhere.
    Beside,
}

/// One value on its way from text.
struct Walk<'w, 'a> {
    place: Place<'w>,
    named: &'w mut Named<'a>,
}

/// A string, borrowed from the text where it has no escapes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Text<'a>(Cow<'a, str>);

/// Reads a text that is one JSON object and nothing else. `way` leads to the member that names devices; empty if none
/// does.
pub(super) fn read<'a>(
    text: &'a str,
    way: &[Box<str>],
) -> Result<(Object<'a>, Named<'a>), serde_json::Error> {
    let mut named = Named::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let place = if way.is_empty() { Place::Beside } else { Place::Above(way) };
    let object = deserializer.deserialize_map(Outermost(Walk { place, named: &mut named }))?;
    deserializer.end()?;
    Ok((object, named))
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
            Member::Null | Member::Other(_) => None,
        }
    }
}

/// Reads the outermost value, which must be an object.
struct Outermost<'w, 'a>(Walk<'w, 'a>);

impl<'de> Visitor<'de> for Outermost<'_, 'de> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        self.0.each_once(map, |name, member| members.push((name, member)))?;
        Ok(Object { members })
    }
}

// === impl Walk ===

impl<'a> Walk<'_, 'a> {
    /// Hands over the members of a map, none of which may be there twice.
    fn each_once<A: MapAccess<'a>>(
        self,
        mut map: A,
        mut take: impl FnMut(Cow<'a, str>, Member<'a>),
    ) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(Text(name)) = map.next_key_seed(TextSeed)? {
            if !seen.insert(name.clone()) {
                let name: String = name.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("the member `{name}` is there twice")));
            }
            let place = match self.place {
                Place::Above([next, rest @ ..]) if **next == name => {
                    if rest.is_empty() {
                        Place::At
                    } else {
                        Place::Above(rest)
                    }
                }
                Place::Above([next, ..]) if differs_only_in_case(&name, next) => {
                    self.named.case.get_or_insert_with(|| name.clone().into_owned());
                    Place::Beside
                }
                _ => Place::Beside,
            };
            let value = map.next_value_seed(Walk { place, named: &mut *self.named })?;
            take(name, value);
        }
        Ok(())
    }

    /// Notes a value that is no text.
    fn other(self, kind: MemberKind) -> Member<'a> {
        if let Place::At | Place::Within = self.place {
            self.named.odd = true;
        }
        Member::Other(kind)
    }

    fn text(self, text: Cow<'a, str>) -> Member<'a> {
        if let Place::At | Place::Within = self.place {
            self.named.devices.push(text.clone());
        }
        Member::Text(text)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = Member<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
        // In the list it names nothing; at the member itself, the member is absent.
        self.named.odd |= matches!(self.place, Place::Within);
        Ok(Member::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'de>, E> {
        Ok(self.other(MemberKind::Boolean))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Member<'de>, E> {
        Ok(self.other(MemberKind::Number))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Member<'de>, E> {
        Ok(self.other(MemberKind::Number))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Member<'de>, E> {
        Ok(self.other(MemberKind::Number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Member<'de>, E> {
        Ok(self.text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member<'de>, E> {
        Ok(self.text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member<'de>, A::Error> {
        let place = match self.place {
            Place::At => Place::Within,
            Place::Within => {
                self.named.odd = true;
                Place::Beside
            }
            Place::Above(_) | Place::Beside => Place::Beside,
        };
        while items.next_element_seed(Walk { place, named: &mut *self.named })?.is_some() {}
        Ok(Member::Other(MemberKind::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member<'de>, A::Error> {
        if let Place::At | Place::Within = self.place {
            self.named.odd = true;
        }
        self.each_once(map, |_, _| {})?;
        Ok(Member::Other(MemberKind::Object))
    }
}

/// Reads a member's name.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Text<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text<'de>, D::Error> {
        let mut unused = Named::default();
        match (Walk { place: Place::Beside, named: &mut unused }).deserialize(deserializer)? {
            Member::Text(text) => Ok(Text(text)),
            Member::Null | Member::Other(_) => Err(D::Error::custom("a member's name must be a string")),
        }
    }
}
