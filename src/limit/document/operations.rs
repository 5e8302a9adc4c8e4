//! The operations of a limit.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use toml::Spanned;

use super::Compiler;
use crate::id::OperationId;
use crate::limit::key::Per;
use crate::limit::quota::NamedDevices;
use crate::source::{OPERATION, did_you_mean};

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

// === impl Compiler ===

impl Compiler<'_> {
    /// The operations of a limit: of all, for one that counts by device, those that name one.
    pub(super) fn operations(
        &mut self,
        operations: &Spanned<OperationsDocument>,
        per: Per,
    ) -> Vec<OperationId> {
        let named = match operations.get_ref() {
            OperationsDocument::All => {
                let all: Vec<_> = self.quotas.keys().cloned().collect();
                let counted = all.into_iter().filter(|operation| {
                    !per.counts_devices() || self.named_devices(operation) != Some(NamedDevices::None)
                });
                let counted: Vec<_> = counted.collect();
                counted.iter().for_each(|operation| self.names_one(operation, operations.span(), per));
                return counted;
            }
            OperationsDocument::Named(named) => named,
        };
        if named.is_empty() {
            self.problems.at(
                self.source,
                operations.span(),
                "a limit needs an operation, or `\"all\"` of them",
            );
        }
        let mut seen = BTreeSet::new();
        for name in named {
            let text = name.get_ref();
            let known = self.quotas.get_key_value(text.as_str()).map(|(operation, _)| operation.clone());
            let Some(operation) = known else {
                if self.problems.is_left_out(OPERATION, text) {
                    continue;
                }
                let known = did_you_mean(text, self.quotas.keys().map(OperationId::as_str));
                let message = format_args!("unknown operation `{text}`");
                self.problems.at(self.source, name.span(), message);
                self.problems.hint(known);
                continue;
            };
            self.names_one(&operation, name.span(), per);
            if !seen.insert(operation) {
                self.problems.at(self.source, name.span(), format_args!("`{text}` is named twice"));
            }
        }
        seen.into_iter().collect()
    }

    /// Says so where a limit that counts by device stands on calls that do not name one device each.
    fn names_one(&mut self, operation: &OperationId, span: Range<usize>, per: Per) {
        let message = match self.named_devices(operation) {
            _ if !per.counts_devices() => return,
            Some(NamedDevices::None) => "names no device, which this limit counts by",
            Some(NamedDevices::Several) => "may name several devices, and this limit counts by one",
            Some(NamedDevices::One) | None => return,
        };
        self.problems.at(self.source, span, format_args!("`{operation}` {message}"));
    }

    fn named_devices(&self, operation: &OperationId) -> Option<NamedDevices> {
        self.of.get(operation).map(|limit| limit.devices)
    }
}
