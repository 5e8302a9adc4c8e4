//! As how many calls a call counts.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use toml::Spanned;

use super::Compiler;
use crate::id::OperationId;
use crate::limit::window::{Bounds, Cost};
use crate::source::OPERATION;

/// One cost for all calls, or one for each operation that it names.
pub(super) enum CostDocument {
    All(i64),
    Each(BTreeMap<String, i64>),
}

/// What it is in a schema.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    let cost = json_schema!({ "type": "integer", "minimum": 1, "maximum": Cost::MAX });
    json_schema!({ "anyOf": [cost, { "type": "object", "additionalProperties": cost }] })
}

// === impl Compiler ===

impl Compiler<'_> {
    /// The cost of each of these operations, in their order.
    pub(super) fn costs(
        &mut self,
        document: Option<&Spanned<CostDocument>>,
        operations: &[OperationId],
        bounds: &Bounds,
    ) -> Vec<Cost> {
        let mut costs = vec![Cost::ONE; operations.len()];
        let Some(document) = document else { return costs };
        match document.get_ref() {
            CostDocument::All(number) => match cost(*number, bounds) {
                Ok(cost) => costs.fill(cost),
                Err(message) => self.problems.at(self.source, document.span(), message),
            },
            CostDocument::Each(numbers) => {
                for (name, number) in numbers {
                    let place = operations.iter().position(|operation| operation.as_str() == name);
                    match (place.and_then(|place| costs.get_mut(place)), cost(*number, bounds)) {
                        (Some(place), Ok(cost)) => *place = cost,
                        (None, _) if self.problems.is_left_out(OPERATION, name) => {}
                        (None, _) => {
                            let message = format_args!("`{name}` is no operation of this limit");
                            self.problems.at(self.source, document.span(), message);
                        }
                        (Some(_), Err(message)) => self.problems.at(self.source, document.span(), message),
                    }
                }
            }
        }
        costs
    }
}

fn cost(number: i64, bounds: &Bounds) -> Result<Cost, String> {
    let smallest = bounds.smallest().get();
    match u32::try_from(number).ok().and_then(Cost::new) {
        None => Err(format!("`{number}` is not a cost: 1 to {}", Cost::MAX)),
        Some(cost) if cost.get() > smallest => {
            Err(format!("a call that costs {number} never finds room in a window of {smallest}"))
        }
        Some(cost) => Ok(cost),
    }
}

// === impl CostDocument ===

impl<'de> Deserialize<'de> for CostDocument {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Costs;

        impl<'de> Visitor<'de> for Costs {
            type Value = CostDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a table of operations and numbers")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<CostDocument, E> {
                Ok(CostDocument::All(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<CostDocument, A::Error> {
                let mut each = BTreeMap::new();
                while let Some((name, number)) = table.next_entry()? {
                    each.insert(name, number);
                }
                Ok(CostDocument::Each(each))
            }
        }

        deserializer.deserialize_any(Costs)
    }
}
