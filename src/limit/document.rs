//! `limits.toml` as written, and how it becomes a [`QuotaSet`].
//!
//! ```toml
//! max_keys      = 1000000         # optional: how many keys the limiter may hold
//! max_addresses = 100000          # optional: how many addresses with failed logins are counted each by itself
//!
//! [[limit]]
//! name       = "collect-per-tenant"
//! operations = ["collect_investigation_package"]   # a list, or "all"
//! per        = ["tenant"]         # any of tenant, application, user, operation; [] is one key for everybody
//! windows    = ["300 per minute"] # all of them hold at once
//! when_full  = "reject"           # optional, the only word there is
//! show       = false              # optional: whether callers see how it stands
//!
//! [[limit]]                       # at most one of this kind: failed logins, whatever the operation
//! name       = "failed-logins"
//! per        = ["address"]
//! windows    = ["60 per minute"]
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use smallvec::SmallVec;
use toml::Spanned;

use crate::id::{LimitName, OperationId};
use crate::limit::logins::LoginQuota;
use crate::limit::odd;
use crate::limit::quota::{
    Dimension, DocumentedLimit, MAX_CHARGES, Per, Quota, QuotaSet, Rule, TooManyRules, Visibility,
};
use crate::outcome::Rate;
use crate::source::{FileSchema, Place, PolicyFiles, Problems, SourceFile, did_you_mean, list_or_all};

mod logins;

/// The keys that a limiter may hold if `max_keys` does not say. A key that was used in the last window takes about
/// 200 bytes, a full one of 100 per minute and 1500 per hour 6.2 KB: 200 MB for a million callers that come and go.
pub const DEFAULT_MAX_KEYS: NonZeroU32 = match NonZeroU32::new(1_000_000) {
    Some(keys) => keys,
    None => NonZeroU32::MIN,
};

pub(super) const FILE: &str = "limits.toml";

/// The longest name of a limit: it goes out in a header with every answer, and into a label of the metrics.
const MAX_NAME: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitDocument {
    #[schemars(with = "String")]
    name: Spanned<String>,
    #[schemars(schema_with = "list_or_all")]
    #[serde(default)]
    operations: Option<Spanned<OperationsDocument>>,
    #[schemars(with = "Vec<Dimension>")]
    per: Vec<Spanned<Dimension>>,
    #[schemars(with = "Vec<String>")]
    windows: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    when_full: WhenFull,
    show: Option<bool>,
}

/// A list of operations, or the word `"all"`.
enum OperationsDocument {
    All,
    Named(Vec<Spanned<String>>),
}

/// What becomes of a call that finds no room.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenFull {
    #[default]
    Reject,
}

/// What has been compiled so far.
struct Compiler<'a> {
    source: &'a SourceFile,
    quotas: &'a mut BTreeMap<OperationId, Vec<Arc<Quota>>>,
    names: HashSet<LimitName>,
    places: &'a mut HashMap<LimitName, Place>,
    logins: Option<LoginQuota>,
    max_addresses: NonZeroU32,
    problems: &'a mut Problems,
}

/// The schema of the file.
pub(crate) fn schema() -> FileSchema {
    FileSchema::new(FILE)
        .value::<NonZeroU32>("max_keys")
        .value::<NonZeroU32>("max_addresses")
        .entries::<LimitDocument>("limit")
}

// === impl QuotaSet ===

impl QuotaSet {
    /// Compiles the documented limits and `limits.toml`. `documented` names every operation there is, also those without
    /// rates. After a problem the set is not complete and must not be used.
    pub fn compile(files: &PolicyFiles, documented: &[DocumentedLimit], problems: &mut Problems) -> Self {
        let mut quotas = BTreeMap::new();
        for limit in documented {
            let quota = documented_quota(limit, files, problems);
            quotas.entry(limit.operation.clone()).or_insert_with(Vec::new).extend(quota);
        }
        let documented = documented.iter().filter(|limit| !limit.rates.is_empty());
        let names: HashSet<_> =
            documented.clone().map(|limit| LimitName::from(limit.operation.as_str())).collect();
        let mut limits = names.len();
        let mut places: HashMap<_, _> = documented
            .filter_map(|limit| Some((LimitName::from(limit.operation.as_str()), limit.place.clone()?)))
            .collect();
        let (mut max_keys, mut logins) = (None, None);
        if let Some(source) = files.require(FILE, problems)
            && let Some(mut toml) = source.toml(problems)
        {
            max_keys = toml.value("max_keys", problems).map(Spanned::into_inner);
            let max_addresses = toml.value("max_addresses", problems).map(Spanned::into_inner);
            let max_addresses = max_addresses.unwrap_or(logins::DEFAULT_MAX_ADDRESSES);
            let documents = toml.entries::<LimitDocument>("limit", problems);
            limits += documents.len();
            let (quotas, places) = (&mut quotas, &mut places);
            let mut compiler =
                Compiler { source, quotas, names, places, logins: None, max_addresses, problems };
            for document in documents {
                let span = document.span();
                compiler.limit(document.into_inner(), span);
            }
            logins = compiler.logins;
            toml.finish(problems);
        }
        for (operation, quotas) in &mut quotas {
            quotas.sort_by_key(|quota| quota.rule);
            quotas.dedup_by_key(|quota| quota.rule);
            if quotas.len() > MAX_CHARGES {
                let names: Vec<_> = quotas.iter().map(|quota| format!("`{}`", quota.name)).collect();
                let (count, names) = (quotas.len(), names.join(", "));
                problems.file(
                    FILE,
                    format_args!(
                        "`{operation}` is under {count} limits, at most {MAX_CHARGES} may be: {names}"
                    ),
                );
            }
        }
        if problems.is_empty() {
            odd::warn(&quotas, &places, files, problems);
        }
        Self {
            by_operation: quotas.into_iter().collect(),
            places,
            limits,
            max_keys: max_keys.unwrap_or(DEFAULT_MAX_KEYS),
            logins,
        }
    }
}

/// The limit that the service itself documents for an operation.
fn documented_quota(
    limit: &DocumentedLimit,
    files: &PolicyFiles,
    problems: &mut Problems,
) -> Option<Arc<Quota>> {
    let mut rates: SmallVec<[Rate; 2]> = limit.rates.iter().copied().collect();
    rates.sort_by_key(|rate| rate.window);
    let operation = &limit.operation;
    if rates.is_empty() {
        return None;
    }
    for message in contradictions(&rates) {
        limit.mistake(files, problems, format_args!("limits of `{operation}`: {message}"));
    }
    let name = LimitName::from(operation.as_str());
    let per = Per::default().with(Dimension::Tenant).with(Dimension::Application).with(Dimension::Operation);
    match (Rule { name: name.clone(), per, operation: Some(operation.clone()) }).id() {
        Ok(rule) => Some(Arc::new(Quota { rule, per, name, rates, visibility: Visibility::Shown })),
        Err(error) => {
            limit.mistake(files, problems, error);
            None
        }
    }
}

/// What cannot be meant: two rates of one window, a longer window that makes a shorter one pointless, or the reverse.
/// `rates` are in the order of their windows.
fn contradictions(rates: &[Rate]) -> Vec<String> {
    let mut messages = Vec::new();
    for (index, short) in rates.iter().enumerate() {
        for long in rates.iter().skip(index + 1) {
            let (n, most) = (long.count.get(), short.count.get());
            let times = long.window.seconds().div_ceil(short.window.seconds());
            if short.window == long.window {
                messages.push(format!("`{short}` and `{long}` have the same window"));
            } else if n < most {
                messages.push(format!("`{short}` can't be reached under `{long}`"));
            } else if u64::from(n) > u64::from(most) * u64::from(times) {
                messages.push(format!("`{long}` can't be reached under `{short}`"));
            }
        }
    }
    messages
}

// === impl Compiler ===

impl Compiler<'_> {
    /// Compiles one `[[limit]]`; every part is looked at, also after a mistake in another.
    fn limit(&mut self, document: LimitDocument, span: Range<usize>) {
        let WhenFull::Reject = document.when_full;
        let name = self.name(&document.name);
        self.places.insert(name.clone(), self.source.place_of(document.name.span()));
        let per = self.per(&document.per);
        if per.has(Dimension::Address) {
            return self.failed_logins(&document);
        }
        let Some(operations) = &document.operations else {
            return self.problems.at(self.source, span, "missing field `operations`");
        };
        let operations = self.operations(operations);
        let rates = self.rates(&document.windows);
        let visibility = match document.show {
            Some(true) => Visibility::Shown,
            Some(false) => Visibility::Hidden,
            None => per.default_visibility(),
        };
        let quota = |operation| {
            let rule = Rule { name: name.clone(), per, operation }.id()?;
            Ok::<_, TooManyRules>(Arc::new(Quota {
                rule,
                per,
                name: name.clone(),
                rates: rates.clone(),
                visibility,
            }))
        };
        // One rule for all operations, or one for each.
        let shared = (!per.has(Dimension::Operation)).then(|| quota(None));
        for operation in operations {
            let quota = shared.clone().unwrap_or_else(|| quota(Some(operation.clone())));
            match quota {
                Ok(quota) => self.quotas.entry(operation).or_default().push(quota),
                Err(error) => self.problems.at(self.source, document.name.span(), error),
            }
        }
    }

    fn name(&mut self, name: &Spanned<String>) -> LimitName {
        let text = name.get_ref();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_plain) {
            let text: String = text.chars().take(80).collect();
            let message = format!(
                "`{text}` is not a name of a limit: 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, as headers and labels carry it"
            );
            self.problems.at(self.source, name.span(), message);
        }
        let limit = LimitName::from(text.as_str());
        if !self.names.insert(limit.clone()) {
            let message = if self.quotas.contains_key(text.as_str()) {
                format!("`{text}` is the name of that operation's documented limit, or of a limit above")
            } else {
                format!("`{text}` is the name of a limit above")
            };
            self.problems.at(self.source, name.span(), message);
        }
        limit
    }

    fn operations(&mut self, operations: &Spanned<OperationsDocument>) -> Vec<OperationId> {
        let named = match operations.get_ref() {
            OperationsDocument::All => return self.quotas.keys().cloned().collect(),
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
            let Some((operation, _)) = self.quotas.get_key_value(text.as_str()) else {
                let known = did_you_mean(text, self.quotas.keys().map(OperationId::as_str));
                let message = format_args!("unknown operation `{text}`");
                self.problems.at(self.source, name.span(), message);
                self.problems.hint(known);
                continue;
            };
            if !seen.insert(operation.clone()) {
                self.problems.at(self.source, name.span(), format_args!("`{text}` is named twice"));
            }
        }
        seen.into_iter().collect()
    }

    fn per(&mut self, dimensions: &[Spanned<Dimension>]) -> Per {
        let mut per = Per::default();
        for dimension in dimensions {
            if per.has(*dimension.get_ref()) {
                self.problems.at(self.source, dimension.span(), "`per` names this twice");
            }
            per = per.with(*dimension.get_ref());
        }
        per
    }

    fn rates(&mut self, windows: &Spanned<Vec<Spanned<String>>>) -> SmallVec<[Rate; 2]> {
        let mut rates: SmallVec<[Rate; 2]> = SmallVec::new();
        for window in windows.get_ref() {
            match window.get_ref().parse::<Rate>() {
                Ok(rate) => rates.push(rate),
                Err(error) => self.problems.at(self.source, window.span(), error),
            }
        }
        if windows.get_ref().is_empty() {
            self.problems.at(self.source, windows.span(), "a limit needs a window such as `100 per minute`");
        }
        rates.sort_by_key(|rate| rate.window);
        for message in contradictions(&rates) {
            self.problems.at(self.source, windows.span(), message);
        }
        rates
    }
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

#[cfg(test)]
mod tests;
