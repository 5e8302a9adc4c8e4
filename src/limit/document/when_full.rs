//! What becomes of a call that finds no room.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use toml::Spanned;

use crate::limit::quota::WhenFull;
use crate::source::{Problems, SourceFile, time_within};

/// `"reject"`, or `{ wait = "5s", queue = 100 }`.
pub(super) enum WhenFullDocument {
    Reject,
    Wait(WaitDocument),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitDocument {
    wait: Spanned<String>,
    queue: Spanned<i64>,
}

/// A millisecond is the grain of windows. A minute is as long as clients and balancers commonly wait for the first byte
/// of an answer: whoever is held for longer is mostly gone before its turn.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// The most calls that may be held for one key: each costs up to 16 KB, so that is 160 MB.
const MAX_QUEUE: u32 = 10_000;

/// What it is in a schema.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "const": "reject" },
        {
            "type": "object",
            "properties": {
                "wait": { "type": "string" },
                "queue": { "type": "integer", "minimum": 1, "maximum": MAX_QUEUE },
            },
            "required": ["wait", "queue"],
            "additionalProperties": false,
        },
    ] })
}

// === impl WhenFullDocument ===

impl WhenFullDocument {
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Wait(_))
    }

    /// What it says; what nothing says is `reject`.
    pub(super) fn read(
        document: Option<&Spanned<Self>>,
        source: &SourceFile,
        problems: &mut Problems,
    ) -> WhenFull {
        let Some(Self::Wait(WaitDocument { wait, queue })) = document.map(Spanned::get_ref) else {
            return WhenFull::Reject;
        };
        let long = time_within(wait.get_ref(), &WAIT).filter(|long| long.subsec_nanos() % 1_000_000 == 0);
        if long.is_none() {
            let text: String = wait.get_ref().chars().take(80).collect();
            let message = format!("`{text}` is not a wait such as `5s`, whole milliseconds, at most `60s`");
            problems.at(source, wait.span(), message);
        }
        let places = u32::try_from(*queue.get_ref()).ok().filter(|places| *places <= MAX_QUEUE);
        let places = places.and_then(NonZeroU32::new);
        if places.is_none() {
            let message = format!("`{}` is not the length of a queue: 1 to {MAX_QUEUE}", queue.get_ref());
            problems.at(source, queue.span(), message);
        }
        match (long, places) {
            (Some(wait), Some(queue)) => WhenFull::Wait { wait, queue },
            _mistake => WhenFull::Reject,
        }
    }
}

impl<'de> Deserialize<'de> for WhenFullDocument {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = WhenFullDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"reject\", or { wait = \"5s\", queue = 100 }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WhenFullDocument, E> {
                match word {
                    "reject" => Ok(WhenFullDocument::Reject),
                    word => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<WhenFullDocument, A::Error> {
                let wait = WaitDocument::deserialize(de::value::MapAccessDeserializer::new(table))?;
                Ok(WhenFullDocument::Wait(wait))
            }
        }

        deserializer.deserialize_any(Words)
    }
}
