//! `limits.toml` as written, and how it becomes a [`QuotaSet`].
//!
//! ```toml
//! max_keys      = 1000000         # optional: how many keys the limiter may hold
//! max_held      = 10000           # optional: how many calls may be held at a time, of all limits together
//! max_addresses = 100000          # optional: how many addresses with failed logins are counted each by itself
//! durable       = true            # optional: whether a call waits until its admission is written; or "fsync"
//! documented_margin = "250ms"     # optional: the margin of the documented limits
//! documented_when_full = "reject" # optional: their `when_full`, where no `[[documented]]` says otherwise
//!
//! [[documented]]                  # the terms of one documented limit
//! operation  = "collect_investigation_package"
//! share      = { "incident-response" = { part = "30%", idle = "kept" } }
//! when_full  = { wait = "5s", queue = 100 }
//!
//! [[limit]]
//! name       = "collect-per-tenant"
//! operations = ["collect_investigation_package"]   # a list, or "all"
//! per        = ["tenant"]         # any of tenant, application, user, operation, device, device_group; [] is one key
//! windows    = ["300 per minute"] # all of them hold at once
//! margin     = "250ms"            # optional: every window is longer by so much
//! cost       = 5                  # optional: a call counts as so many; or { collect = 5 }, and other calls as one
//! when_full  = "reject"           # optional; or { wait = "5s", queue = 100 }
//! share      = { "soar" = { part = "50%", idle = "lent", until = "2026-03-01T18:00:00Z" } }   # optional
//! until      = "2026-03-01T18:00:00Z"   # optional: from then on it is not applied
//! open_actions = 25               # optional: as many actions may be under way; `windows` may then be left out
//! open_for   = "3d"               # optional: how long an action counts whose end nobody saw
//! in_flight  = 25                 # optional: as many calls may be on their way; `windows` may then be left out
//! show       = false              # optional: whether callers see how it stands
//! enforce    = false              # optional: count, and say what would be refused, but refuse nothing
//!
//! [[limit]]                       # at most one of this kind: failed logins, whatever the operation
//! name       = "failed-logins"
//! per        = ["address"]
//! windows    = ["60 per minute"]
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::id::{LimitName, OperationId};
use crate::limit::key::{Dimension, Per, Rule};
use crate::limit::logins::LoginQuota;
use crate::limit::odd;
use crate::limit::open::OpenQuota;
use crate::limit::owners::Owners;
use crate::limit::quota::{DocumentedLimit, Effect, Limited, Quota, QuotaSet, Visibility};
use crate::limit::window::{Cost, InvalidMargin, Margin};
use crate::source::{FileSchema, Place, PolicyFiles, Problems, SourceFile, list_or_all};
use crate::time::Wall;

mod cost;
mod count;
mod documented;
mod durable;
mod logins;
mod open;
mod operations;
mod rates;
mod share;
mod until;
mod when_full;

use cost::CostDocument;
use count::count_keys;
use documented::{DocumentedDocument, Terms};
use durable::DurableDocument;
use operations::OperationsDocument;
use share::{PartDocument, ShareDocument, Whole};
use until::until;
use when_full::WhenFullDocument;

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
    #[schemars(with = "Option<Vec<String>>")]
    windows: Option<Spanned<Vec<Spanned<String>>>>,
    #[schemars(with = "Option<String>")]
    margin: Option<Spanned<String>>,
    #[schemars(schema_with = "cost::schema")]
    #[serde(default)]
    cost: Option<Spanned<CostDocument>>,
    #[schemars(schema_with = "when_full::schema")]
    #[serde(default)]
    when_full: Option<Spanned<WhenFullDocument>>,
    #[schemars(with = "Option<BTreeMap<String, PartDocument>>")]
    share: Option<Spanned<ShareDocument>>,
    #[schemars(with = "Option<NonZeroU32>")]
    in_flight: Option<Spanned<NonZeroU32>>,
    #[schemars(with = "Option<NonZeroU32>")]
    open_actions: Option<Spanned<NonZeroU32>>,
    #[schemars(with = "Option<String>")]
    open_for: Option<Spanned<String>>,
    #[schemars(with = "Option<String>")]
    until: Option<Spanned<String>>,
    show: Option<bool>,
    enforce: Option<bool>,
}

/// What has been compiled so far.
struct Compiler<'a> {
    source: &'a SourceFile,
    owners: &'a Owners,
    now: Wall,
    quotas: &'a mut BTreeMap<OperationId, Vec<Arc<Quota>>>,
    actions: BTreeMap<OperationId, Vec<Arc<OpenQuota>>>,
    of: HashMap<&'a OperationId, &'a DocumentedLimit>,
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
        .value::<NonZeroU32>("max_held")
        .value::<NonZeroU32>("max_addresses")
        .value::<String>("documented_margin")
        .schema("documented_when_full", when_full::schema)
        .schema("durable", durable::schema)
        .entries::<DocumentedDocument>("documented")
        .entries::<LimitDocument>("limit")
}

// === impl QuotaSet ===

impl QuotaSet {
    /// Compiles the documented limits and `limits.toml`. `documented` names every operation there is, also those without
    /// rates; `owners` everybody who may be promised a part. `now` is what `until` is compared with, for warnings alone.
    /// After a problem the set is not complete and must not be used.
    pub fn compile(
        files: &PolicyFiles,
        documented: &[DocumentedLimit],
        owners: &Owners,
        now: Wall,
        problems: &mut Problems,
    ) -> Self {
        let mut toml =
            files.require(FILE, problems).and_then(|source| Some((source, source.toml(problems)?)));
        let terms = match &mut toml {
            Some((source, toml)) => Terms::read(source, toml, documented, problems),
            None => Terms::default(),
        };
        let mut quotas = BTreeMap::new();
        for limit in documented {
            let quota = terms.quota(limit, owners, now, files, problems);
            quotas.entry(limit.operation.clone()).or_insert_with(Vec::new).extend(quota);
        }
        let of = documented.iter().map(|limit| (&limit.operation, limit)).collect();
        let limited = documented.iter().filter(|limit| !limit.rates.is_empty());
        let names: HashSet<_> =
            limited.clone().map(|limit| LimitName::from(limit.operation.as_str())).collect();
        let mut limits = names.len();
        let mut places: HashMap<_, _> = limited
            .filter_map(|limit| Some((LimitName::from(limit.operation.as_str()), limit.place.clone()?)))
            .collect();
        let (mut max_keys, mut max_held, mut logins) = (None, None, None);
        let (mut durable, mut actions) = (None, BTreeMap::new());
        if let Some((source, mut toml)) = toml {
            max_keys = toml.value("max_keys", problems).map(Spanned::into_inner);
            max_held = toml.value("max_held", problems).map(Spanned::into_inner);
            durable = toml
                .value("durable", problems)
                .and_then(|word: Spanned<DurableDocument>| word.into_inner().0);
            let max_addresses = toml.value("max_addresses", problems).map(Spanned::into_inner);
            let max_addresses = max_addresses.unwrap_or(logins::DEFAULT_MAX_ADDRESSES);
            let documents = toml.entries::<LimitDocument>("limit", problems);
            limits += documents.len();
            let (quotas, places) = (&mut quotas, &mut places);
            let mut compiler = Compiler {
                source,
                owners,
                now,
                quotas,
                actions: BTreeMap::new(),
                of,
                names,
                places,
                logins: None,
                max_addresses,
                problems,
            };
            for document in documents {
                let span = document.span();
                compiler.limit(document.into_inner(), span);
            }
            (logins, actions) = (compiler.logins, compiler.actions);
            toml.finish(problems);
        }
        for (operation, quotas) in &mut quotas {
            quotas.sort_by_key(|quota| quota.rule);
            quotas.dedup_by_key(|quota| quota.rule);
            count_keys(operation, quotas, problems);
        }
        if problems.is_empty() {
            odd::warn(&quotas, &places, files, problems);
        }
        let limited = quotas.into_iter().map(|(operation, quotas)| {
            let actions = actions.remove(&operation).unwrap_or_default();
            (operation, Limited { quotas, actions })
        });
        let max_keys = max_keys.unwrap_or(DEFAULT_MAX_KEYS);
        Self::new(limited, places, limits, max_keys, logins).holding(max_held).with_durable(durable)
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
        let bounds = self.bounds(&document, span);
        let costs = self.costs(document.cost.as_ref(), &operations, &bounds);
        let when_full = WhenFullDocument::read(document.when_full.as_ref(), self.source, self.problems);
        self.without_windows(&document, &bounds);
        let open = self.open_actions(&document, &operations);
        let whole = Whole {
            source: self.source,
            owners: self.owners,
            now: self.now,
            name: &name,
            per,
            bounds: &bounds,
            dearest: costs.iter().copied().max().unwrap_or(Cost::ONE),
            problems: self.problems,
        };
        let division = whole.divide(document.share.as_ref());
        let until = until(document.until.as_ref(), self.source, self.problems);
        if let (Some(word), Some(until)) = (&document.until, until) {
            until::warn(&format!("`{name}`"), word, until, self.now, self.source, self.problems);
        }
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
            if let Some((most, open_for)) = open {
                let (name, operation_of) = (name.clone(), of.clone());
                let quota = OpenQuota { name, per, operation: operation_of, most, open_for, effect, until };
                self.actions.entry(operation.clone()).or_default().push(Arc::new(quota));
                if bounds.each().is_empty() && document.in_flight.is_none() {
                    continue;
                }
            }
            let parts = division.parts(&name, per, of.as_ref());
            match (parts, Rule { name: name.clone(), per, operation: of, part: None }.id()) {
                (Ok(parts), Ok(rule)) => {
                    let quota = Quota {
                        rule,
                        per,
                        name: name.clone(),
                        bounds: division.rest.clone(),
                        cost,
                        effect,
                        visibility,
                        when_full,
                        in_flight: document.in_flight.as_ref().map(|most| *most.get_ref()),
                        parts,
                        whole: bounds.clone(),
                        until,
                    };
                    self.quotas.entry(operation).or_default().push(Arc::new(quota));
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.problems.at(self.source, document.name.span(), error);
                }
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
