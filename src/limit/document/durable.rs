//! What the record of an admission must survive before the call is forwarded.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Visitor};

use crate::journal::Durability;

/// `false`, `true` or `"fsync"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DurableDocument(pub(super) Option<Durability>);

/// What it is in a schema.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [false, true, "fsync"] })
}

impl<'de> Deserialize<'de> for DurableDocument {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = DurableDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"fsync\"")
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<DurableDocument, E> {
                Ok(DurableDocument(word.then_some(Durability::Process)))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<DurableDocument, E> {
                match word {
                    "fsync" => Ok(DurableDocument(Some(Durability::Power))),
                    word => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(Words)
    }
}
