//! What stands in a case, word by word.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use toml::{Spanned, Value};

use super::{Reader, Verdict};
use crate::cli::test::caller::to_json;
use crate::cli::test::document::Word;
use crate::outcome::ReasonCode;
use crate::source::known_are;
use crate::time::Wall;

/// A step may be repeated this many times: enough to fill a documented limit of an hour many times over.
const MAX_REPEAT: u32 = 100_000;

impl Reader<'_> {
    pub(super) fn line(&mut self, word: &Word) -> Option<(Method, String)> {
        let parsed = word.get_ref().split_once(' ').and_then(|(method, target)| {
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            (!target.is_empty() && !target.contains(' ')).then(|| (method, target.to_owned()))
        });
        if parsed.is_none() {
            let message = format_args!("`{}` is not a call such as `GET /api/machines`", word.get_ref());
            self.at(word, message);
        }
        parsed
    }

    pub(super) fn body(&mut self, call: &Word, body: Value) -> Option<Bytes> {
        match body {
            // As it is, whatever it is.
            Value::String(text) => Some(text.into()),
            body => match to_json(body) {
                Some(json) => Some(json.to_string().into()),
                None => {
                    self.at(call, "the body of this call is no JSON: dates are written as strings");
                    None
                }
            },
        }
    }

    pub(super) fn headers(
        &mut self,
        written: Option<&BTreeMap<String, Word>>,
        has_body: bool,
    ) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in written.into_iter().flatten() {
            let parsed = name.parse::<HeaderName>().ok().zip(value.get_ref().parse().ok());
            let Some((header, text)) = parsed else {
                self.at(value, format_args!("`{name}` with this value is no header"));
                return None;
            };
            headers.insert(header, text);
        }
        Some(headers)
    }

    pub(super) fn verdict(&mut self, word: &Word) -> Option<Verdict> {
        const ADMITTED: &str = "admitted";
        let text = word.get_ref();
        if text == ADMITTED {
            return Some(Verdict::Admitted);
        }
        let found = ReasonCode::ALL.iter().find(|reason| reason.as_str() == text);
        if found.is_none() {
            self.at(word, format_args!("`{text}` is neither `{ADMITTED}` nor a reason"));
            let known: Vec<_> =
                ReasonCode::ALL.iter().map(|reason| reason.as_str()).chain([ADMITTED]).collect();
            self.problems.hint(known_are(text, known));
        }
        found.map(|reason| Verdict::Refused(*reason))
    }

    pub(super) fn time(&mut self, word: &Word) -> Option<Wall> {
        let parsed = word.get_ref().parse::<jiff::Timestamp>();
        if parsed.is_err() {
            let message = format_args!("`{}` is not a time such as `2026-01-01T08:00:00Z`", word.get_ref());
            self.at(word, message);
        }
        parsed.ok().map(|time| Wall::from_unix_seconds(time.as_second()))
    }

    pub(super) fn offset(&mut self, word: &Word, last: Duration) -> Option<Duration> {
        let parsed = word.get_ref().parse::<jiff::SignedDuration>().ok();
        let parsed = parsed.and_then(|offset| Duration::try_from(offset).ok());
        match parsed {
            None => {
                self.at(word, format_args!("`{}` is not a time such as `18s` or `1h 5m`", word.get_ref()))
            }
            Some(at) if at < last => {
                self.at(
                    word,
                    "a step comes before the one above it: times count from the beginning of the case",
                );
            }
            Some(at) => return Some(at),
        }
        None
    }

    pub(super) fn repeat(&mut self, repeat: &Spanned<u32>) -> Option<u32> {
        let count = *repeat.get_ref();
        if !(1..=MAX_REPEAT).contains(&count) {
            let message = format_args!("a step is repeated 1 to {MAX_REPEAT} times");
            self.problems.at(self.source, repeat.span(), message);
            return None;
        }
        Some(count)
    }

    pub(super) fn at(&mut self, word: &Word, message: impl std::fmt::Display) {
        self.problems.at(self.source, word.span(), message);
    }
}
