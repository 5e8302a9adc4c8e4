//! `limits.toml` as written, and how it becomes a [`QuotaSet`].
//!
//! ```toml
//! max_keys      = 1000000         # optional: how many keys the limiter may hold
//! max_addresses = 100000          # optional: how many addresses with failed logins are counted each by itself
//! documented_margin = "250ms"     # optional: the margin of the documented limits
//!
//! [[limit]]
//! name       = "collect-per-tenant"
//! operations = ["collect_investigation_package"]   # a list, or "all"
//! per        = ["tenant"]         # any of tenant, application, user, operation, device, device_group; [] is one key
//! windows    = ["300 per minute"] # all of them hold at once
//! margin     = "250ms"            # optional: every window is longer by so much
//! cost       = 5                  # optional: a call counts as so many; or { collect = 5 }, and other calls as one
//! when_full  = "reject"           # optional, the only word there is
//! show       = false              # optional: whether callers see how it stands
//! enforce    = false              # optional: count, and say what would be refused, but refuse nothing
//!
//! [[limit]]                       # at most one of this kind: failed logins, whatever the operation
//! name       = "failed-logins"
//! per        = ["address"]
//! windows    = ["60 per minute"]
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use smallvec::SmallVec;
use toml::Spanned;

use crate::id::{LimitName, OperationId};
use crate::limit::key::{Dimension, Per, Rule};
use crate::limit::logins::LoginQuota;
use crate::limit::odd;
use crate::limit::quota::{
    DocumentedLimit, Effect, MAX_CHARGES, NamedDevices, Quota, QuotaSet, Visibility, WhenFull,
};
use crate::limit::window::{Bound, Bounds, Cost, InvalidMargin, Margin};
use crate::outcome::Rate;
use crate::source::{FileSchema, Place, PolicyFiles, Problems, SourceFile, did_you_mean, list_or_all};

mod cost;
mod logins;
mod operations;
mod rates;

use cost::CostDocument;
use operations::OperationsDocument;
use rates::contradictions;

/// The keys that a limiter may hold if `max_keys` does not say. A key that was used up to
/// three times in the last window takes some 125 bytes, a full one of 100 per minute and 1500 per hour 6.2 KB: 125 MB for
/// a million callers that come and go.
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
    #[schemars(with = "Option<String>")]
    margin: Option<Spanned<String>>,
    #[schemars(schema_with = "cost::schema")]
    #[serde(default)]
    cost: Option<Spanned<CostDocument>>,
    #[serde(default)]
    when_full: WhenFullDocument,
    show: Option<bool>,
    enforce: Option<bool>,
}

/// What becomes of a call that finds no room.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenFullDocument {
    #[default]
    Reject,
}

/// What has been compiled so far.
struct Compiler<'a> {
    source: &'a SourceFile,
    quotas: &'a mut BTreeMap<OperationId, Vec<Arc<Quota>>>,
    devices: HashMap<&'a OperationId, NamedDevices>,
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
        .value::<String>("documented_margin")
        .entries::<LimitDocument>("limit")
}

// === impl QuotaSet ===

impl QuotaSet {
    /// Compiles the documented limits and `limits.toml`. `documented` names every operation there is, also those without
    /// rates. After a problem the set is not complete and must not be used.
    pub fn compile(files: &PolicyFiles, documented: &[DocumentedLimit], problems: &mut Problems) -> Self {
        let mut toml =
            files.require(FILE, problems).and_then(|source| Some((source, source.toml(problems)?)));
        let documented_margin = match &mut toml {
            Some((source, toml)) => {
                let word = toml.value::<String>("documented_margin", problems);
                margin(source, word.as_ref(), problems)
            }
            None => Margin::default(),
        };
        let mut quotas = BTreeMap::new();
        for limit in documented {
            let quota = documented_quota(limit, documented_margin, files, problems);
            quotas.entry(limit.operation.clone()).or_insert_with(Vec::new).extend(quota);
        }
        let devices = documented.iter().map(|limit| (&limit.operation, limit.devices)).collect();
        let limited = documented.iter().filter(|limit| !limit.rates.is_empty());
        let names: HashSet<_> =
            limited.clone().map(|limit| LimitName::from(limit.operation.as_str())).collect();
        let mut limits = names.len();
        let mut places: HashMap<_, _> = limited
            .filter_map(|limit| Some((LimitName::from(limit.operation.as_str()), limit.place.clone()?)))
            .collect();
        let (mut max_keys, mut logins) = (None, None);
        if let Some((source, mut toml)) = toml {
            max_keys = toml.value("max_keys", problems).map(Spanned::into_inner);
            let max_addresses = toml.value("max_addresses", problems).map(Spanned::into_inner);
            let max_addresses = max_addresses.unwrap_or(logins::DEFAULT_MAX_ADDRESSES);
            let documents = toml.entries::<LimitDocument>("limit", problems);
            limits += documents.len();
            let (quotas, places) = (&mut quotas, &mut places);
            let mut compiler =
                Compiler { source, quotas, devices, names, places, logins: None, max_addresses, problems };
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
        Self::new(quotas, places, limits, max_keys.unwrap_or(DEFAULT_MAX_KEYS), logins)
    }
}

/// The limit that the service itself documents for an operation.
fn documented_quota(
    limit: &DocumentedLimit,
    margin: Margin,
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
    match (Rule { name: name.clone(), per, operation: Some(operation.clone()), part: None }).id() {
        Ok(rule) => Some(Arc::new(Quota {
            rule,
            per,
            name,
            bounds: Bounds::new(rates.into_iter().map(|rate| Bound::new(rate, margin))),
            cost: Cost::ONE,
            effect: Effect::Enforced,
            visibility: Visibility::Shown,
            when_full: WhenFull::Reject,
            in_flight: None,
            parts: Box::default(),
        })),
        Err(error) => {
            limit.mistake(files, problems, error);
            None
        }
    }
}

/// None where nothing is said.
fn margin(source: &SourceFile, word: Option<&Spanned<String>>, problems: &mut Problems) -> Margin {
    let Some(word) = word else { return Margin::default() };
    word.get_ref().parse().unwrap_or_else(|error: InvalidMargin| {
        problems.at(source, word.span(), error);
        Margin::default()
    })
}

/// Shown if a key of its is one caller's own, so that it shows nobody else's traffic, and if the caller is held to it.
const fn default_visibility(per: Per, effect: Effect) -> Visibility {
    match effect {
        Effect::Enforced if per.has(Dimension::Application) || per.has(Dimension::User) => Visibility::Shown,
        Effect::Enforced | Effect::Shadow => Visibility::Hidden,
    }
}

// === impl Compiler ===

impl Compiler<'_> {
    /// Compiles one `[[limit]]`; every part is looked at, also after a mistake in another.
    fn limit(&mut self, document: LimitDocument, span: Range<usize>) {
        let WhenFullDocument::Reject = document.when_full;
        let name = self.name(&document.name);
        self.places.insert(name.clone(), self.source.place_of(document.name.span()));
        let per = self.per(&document.per);
        if per.has(Dimension::Address) {
            return self.failed_logins(&document);
        }
        let Some(operations) = &document.operations else {
            return self.problems.at(self.source, span, "missing field `operations`");
        };
        let operations = self.operations(operations, per);
        let rates = self.rates(&document.windows);
        let margin = margin(self.source, document.margin.as_ref(), self.problems);
        let bounds = Bounds::new(rates.into_iter().map(|rate| Bound::new(rate, margin)));
        let costs = self.costs(document.cost.as_ref(), &operations, &bounds);
        let effect = match document.enforce {
            None | Some(true) => Effect::Enforced,
            Some(false) => Effect::Shadow,
        };
        let visibility = match document.show {
            Some(true) => Visibility::Shown,
            Some(false) => Visibility::Hidden,
            None => default_visibility(per, effect),
        };
        for (operation, cost) in operations.into_iter().zip(costs) {
            // One rule for all operations, or one for each.
            let of = per.has(Dimension::Operation).then(|| operation.clone());
            match (Rule { name: name.clone(), per, operation: of, part: None }).id() {
                Ok(rule) => {
                    let (name, bounds) = (name.clone(), bounds.clone());
                    let (when_full, in_flight, parts) = (WhenFull::Reject, None, Box::default());
                    let quota = Quota {
                        rule,
                        per,
                        name,
                        bounds,
                        cost,
                        effect,
                        visibility,
                        when_full,
                        in_flight,
                        parts,
                    };
                    self.quotas.entry(operation).or_default().push(Arc::new(quota));
                }
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

    /// The operations of a limit: of all, for one that counts by device, those that name one.
    fn operations(&mut self, operations: &Spanned<OperationsDocument>, per: Per) -> Vec<OperationId> {
        let named = match operations.get_ref() {
            OperationsDocument::All => {
                let all: Vec<_> = self.quotas.keys().cloned().collect();
                let counted = all.into_iter().filter(|operation| {
                    !per.counts_devices() || self.devices.get(operation) != Some(&NamedDevices::None)
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
        let message = match self.devices.get(operation) {
            _ if !per.counts_devices() => return,
            Some(NamedDevices::None) => "names no device, which this limit counts by",
            Some(NamedDevices::Several) => "may name several devices, and this limit counts by one",
            Some(NamedDevices::One) | None => return,
        };
        self.problems.at(self.source, span, format_args!("`{operation}` {message}"));
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
}

#[cfg(test)]
mod tests;
