//! The limits that the service documents, on the terms of `limits.toml`.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use smallvec::SmallVec;
use toml::Spanned;

use super::margin;
use super::rates::contradictions;
use super::share::{PartDocument, ShareDocument, Whole};
use super::when_full::{self, WhenFullDocument};
use crate::id::{LimitName, OperationId};
use crate::limit::key::{Dimension, Per, Rule};
use crate::limit::owners::Owners;
use crate::limit::quota::{DocumentedLimit, Effect, Quota, Visibility, WhenFull};
use crate::limit::window::{Bound, Bounds, Cost, Margin};
use crate::outcome::Rate;
use crate::source::{OPERATION, PolicyFiles, Problems, SourceFile, TomlFile, did_you_mean};
use crate::time::Wall;

/// What is said of one documented limit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentedDocument {
    #[schemars(with = "String")]
    operation: Spanned<String>,
    #[schemars(schema_with = "when_full::schema")]
    #[serde(default)]
    when_full: Option<Spanned<WhenFullDocument>>,
    #[schemars(with = "Option<std::collections::BTreeMap<String, PartDocument>>")]
    share: Option<Spanned<ShareDocument>>,
}

/// What is said of all documented limits, and of some.
#[derive(Default)]
pub(super) struct Terms<'a> {
    source: Option<&'a SourceFile>,
    margin: Margin,
    when_full: WhenFull,
    each: HashMap<OperationId, (WhenFull, Option<Spanned<ShareDocument>>)>,
}

// === impl Terms ===

impl<'a> Terms<'a> {
    pub(super) fn read(
        source: &'a SourceFile,
        toml: &mut TomlFile<'_>,
        documented: &[DocumentedLimit],
        problems: &mut Problems,
    ) -> Self {
        let word = toml.value::<String>("documented_margin", problems);
        let margin = margin(source, word.as_ref(), problems);
        let word = toml.value("documented_when_full", problems);
        let when_full = WhenFullDocument::read(word.as_ref(), source, problems);
        let limited = documented.iter().filter(|limit| !limit.rates.is_empty());
        let names: Vec<_> = limited.map(|limit| &limit.operation).collect();
        let mut each = HashMap::new();
        for document in toml.entries::<DocumentedDocument>("documented", problems) {
            let DocumentedDocument { operation, when_full: own, share } = document.into_inner();
            let text = operation.get_ref();
            let Some(known) = names.iter().find(|known| known.as_str() == text) else {
                if problems.is_left_out(OPERATION, text) {
                    continue;
                }
                problems.at(
                    source,
                    operation.span(),
                    format_args!("`{text}` is no operation with documented limits"),
                );
                problems.hint(did_you_mean(text, names.iter().map(|known| known.as_str())));
                continue;
            };
            let own = match own {
                Some(own) => WhenFullDocument::read(Some(&own), source, problems),
                None => when_full,
            };
            if each.insert(OperationId::clone(known), (own, share)).is_some() {
                let message = format!("the documented limit of `{text}` has its terms above");
                problems.at(source, operation.span(), message);
            }
        }
        Self { source: Some(source), margin, when_full, each }
    }

    /// The limit that the service itself documents for an operation.
    pub(super) fn quota(
        &self,
        limit: &DocumentedLimit,
        owners: &Owners,
        now: Wall,
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
        let per =
            Per::default().with(Dimension::Tenant).with(Dimension::Application).with(Dimension::Operation);
        let bounds = Bounds::new(rates.into_iter().map(|rate| Bound::new(rate, self.margin)));
        let (when_full, share) = match self.each.get(operation) {
            Some((when_full, share)) => (*when_full, share.as_ref()),
            None => (self.when_full, None),
        };
        let divided = self.source.map(|source| {
            let (name, bounds, dearest) = (&name, &bounds, Cost::ONE);
            Whole { source, owners, now, name, per, bounds, dearest, problems }.divide(share)
        });
        let (rest, parts) = match divided {
            Some(division) => {
                let parts = division.parts(&name, per, Some(operation));
                (division.rest, parts)
            }
            None => (bounds.clone(), Ok(Box::default())),
        };
        match (parts, Rule { name: name.clone(), per, operation: Some(operation.clone()), part: None }.id()) {
            (Ok(parts), Ok(rule)) => Some(Arc::new(Quota {
                rule,
                per,
                name,
                bounds: rest,
                cost: Cost::ONE,
                effect: Effect::Enforced,
                visibility: Visibility::Shown,
                when_full,
                in_flight: None,
                parts,
                whole: bounds,
                until: None,
            })),
            (Err(error), _) | (_, Err(error)) => {
                limit.mistake(files, problems, error);
                None
            }
        }
    }
}
