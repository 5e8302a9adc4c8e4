//! The operations of a limit.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use toml::Spanned;

/// A list of operations, or the word `"all"`.
pub(super) enum OperationsDocument {
    All,
    Named(Vec<Spanned<String>>),
}

// === impl OperationsDocument ===

impl<'de> Deserialize<'de> for OperationsDocument {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Operations;

        impl<'de> Visitor<'de> for Operations {
            type Value = OperationsDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of operations, or \"all\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OperationsDocument, E> {
                match word {
                    "all" => Ok(OperationsDocument::All),
                    word => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OperationsDocument, A::Error> {
                let mut named = Vec::new();
                while let Some(name) = list.next_element()? {
                    named.push(name);
                }
                Ok(OperationsDocument::Named(named))
            }
        }

        deserializer.deserialize_any(Operations)
    }
}
