//! The parts of a limit that are promised to somebody.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::until::{self, until};
use crate::id::{LimitName, OperationId};
use crate::limit::key::{Dimension, Per, Rule, TooManyRules};
use crate::limit::owners::{InvalidOwner, Owners};
use crate::limit::quota::{Idle, Owner, Part};
use crate::limit::window::{Bound, Bounds, Cost, Margin};
use crate::outcome::Rate;
use crate::source::{OWNER, Problems, SourceFile, did_you_mean};
use crate::time::Wall;

/// Each owner, and what is promised to it.
pub(super) type ShareDocument = BTreeMap<Spanned<String>, PartDocument>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PartDocument {
    #[schemars(with = "String")]
    part: Spanned<String>,
    idle: IdleDocument,
    #[schemars(with = "Option<String>")]
    until: Option<Spanned<String>>,
}

/// What becomes of a part that its owner does not use.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum IdleDocument {
    Kept,
    Lent,
}

/// A part in percent, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Percent(u32);

/// Text that is no such part.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a part such as `30%`: 1 to 100")]
struct InvalidPercent(String);

/// A limit whose parts are asked for, and where what is wrong with them goes.
pub(super) struct Whole<'a> {
    pub(super) source: &'a SourceFile,
    pub(super) owners: &'a Owners,
    pub(super) now: Wall,
    pub(super) name: &'a LimitName,
    pub(super) per: Per,
    pub(super) bounds: &'a Bounds,
    /// The most that a call of it costs.
    pub(super) dearest: Cost,
    pub(super) problems: &'a mut Problems,
}

/// A limit, divided.
#[derive(Debug, Clone)]
pub(super) struct Division {
    /// What is left for everybody.
    pub(super) rest: Bounds,
    parts: Vec<Promise>,
}

/// A part, before it has a rule.
#[derive(Debug, Clone)]
struct Promise {
    name: Arc<str>,
    bounds: Bounds,
    owner: Owner,
    idle: Idle,
    until: Option<Wall>,
}

// === impl Whole ===

impl Whole<'_> {
    /// Divides the limit as the file says. After a mistake the division is not complete and must not be used.
    pub(super) fn divide(mut self, document: Option<&Spanned<ShareDocument>>) -> Division {
        let none = Division { rest: self.bounds.clone(), parts: Vec::new() };
        let Some(document) = document else { return none };
        if self.bounds.each().is_empty() {
            self.mistake(document, "a share is a part of windows, and this limit has none");
            return none;
        }
        let parts: Vec<_> =
            document.get_ref().iter().filter_map(|(name, part)| self.part(name, part)).collect();
        let percent: u32 = parts.iter().map(|(_, percent)| percent.0).sum();
        if percent > 100 {
            self.mistake(document, format_args!("the parts come to {percent}% together, of 100%"));
            return none;
        }
        let parts: Vec<_> = parts.into_iter().map(|(part, _)| part).collect();
        let rest = self.rest(document, &parts, percent);
        Division { rest, parts }
    }

    /// One promise; none after a mistake, and where it comes to nothing.
    fn part(&mut self, name: &Spanned<String>, document: &PartDocument) -> Option<(Promise, Percent)> {
        let PartDocument { part, idle, until: word } = document;
        let owner = self.owner(name);
        let percent = part.get_ref().parse::<Percent>();
        let percent = percent.map_err(|error| self.problems.at(self.source, part.span(), error)).ok();
        let until = until(word.as_ref(), self.source, self.problems);
        if let (Some(word), Some(until)) = (word, until) {
            let what = format!("the part of `{}` in `{}`", name.get_ref(), self.name);
            until::warn(&what, word, until, self.now, self.source, self.problems);
        }
        let (owner, percent) = (owner?, percent?);
        let idle = Idle::from(*idle);
        let mut bounds = Vec::new();
        for bound in self.bounds.each() {
            let Some(count) = percent.of(bound.rate.count, idle) else {
                let (name, whole) = (name.get_ref(), bound.rate);
                let message = format!(
                    "{}% of `{whole}` is less than one call: nothing is promised to `{name}`",
                    percent.0
                );
                self.problems.warn_at(self.source, part.span(), message);
                return None;
            };
            bounds.push(of_count(*bound, count));
        }
        let bounds = Bounds::new(bounds);
        let (least, dearest) = (bounds.smallest(), self.dearest.get());
        if dearest > least.get() {
            let message = format!("a call that costs {dearest} never finds room in a part of {least}");
            self.problems.at(self.source, part.span(), message);
            return None;
        }
        let name = name.get_ref().as_str().into();
        Some((Promise { name, bounds, owner, idle, until }, percent))
    }

    fn owner(&mut self, name: &Spanned<String>) -> Option<Owner> {
        let text = name.get_ref();
        let owner = match self.owners.find(text) {
            Ok(owner) => owner,
            Err(InvalidOwner::Unknown(_)) if self.problems.is_left_out(OWNER, text) => return None,
            Err(error) => {
                let hint = match error {
                    InvalidOwner::Unknown(_) => did_you_mean(text, self.owners.names()),
                    InvalidOwner::Ambiguous(_) => None,
                };
                self.problems.at(self.source, name.span(), error);
                self.problems.hint(hint);
                return None;
            }
        };
        let whom = match &owner {
            Owner::Within(_, owner) => owner,
            owner => owner,
        };
        let (alone, whom) = match whom {
            Owner::Application(_) => (Dimension::Application, "application"),
            Owner::User(_) | Owner::Holders { .. } | Owner::Within(..) => (Dimension::User, "user"),
        };
        if self.per.has(alone) {
            let message = format!(
                "this limit counts each {whom} apart, so that `{text}` has one of its own already: nobody shares it"
            );
            self.problems.at(self.source, name.span(), message);
            return None;
        }
        Some(owner)
    }

    /// What the parts leave of each window. Where they leave nothing of one, they leave nothing: a call counts in all.
    fn rest(&mut self, document: &Spanned<ShareDocument>, parts: &[Promise], percent: u32) -> Bounds {
        let mut rest = Vec::new();
        for (index, whole) in self.bounds.each().iter().enumerate() {
            let of_each = parts.iter().filter_map(|part| part.bounds.each().get(index));
            let promised: u32 = of_each.map(|bound| bound.rate.count.get()).sum();
            let (rate, count) = (whole.rate, whole.rate.count.get());
            match count.checked_sub(promised).map(NonZeroU32::new) {
                Some(Some(left)) => rest.push(of_count(*whole, left)),
                Some(None) if percent == 100 => {}
                Some(None) => {
                    let message = format!("the parts, rounded, take all of `{rate}`: nobody else has any");
                    self.problems.warn_at(self.source, document.span(), message);
                }
                None => {
                    let message =
                        format!("each kept part is at least one call, and `{rate}` has fewer than parts");
                    self.problems.at(self.source, document.span(), message);
                }
            }
        }
        if rest.len() < self.bounds.each().len() {
            rest.clear();
        }
        let rest = Bounds::new(rest);
        let (dearest, least) = (self.dearest.get(), rest.smallest().get());
        if !rest.each().is_empty() && dearest > least {
            let message =
                format!("a call that costs {dearest} never finds room in what is left for others, {least}");
            self.mistake(document, message);
        }
        rest
    }

    fn mistake(&mut self, document: &Spanned<ShareDocument>, message: impl std::fmt::Display) {
        self.problems.at(self.source, document.span(), message);
    }
}

// === impl Division ===

impl Division {
    /// How many keys a call may come to: one for the rest and one for each part.
    pub(super) fn parts(
        &self,
        name: &LimitName,
        per: Per,
        operation: Option<&OperationId>,
    ) -> Result<Box<[Part]>, TooManyRules> {
        let part = |promise: &Promise| {
            let Promise { name: of, bounds, owner, idle, until } = promise.clone();
            let (name, operation, part) = (name.clone(), operation.cloned(), Some(of.clone()));
            let rule = Rule { name, per, operation, part }.id()?;
            Ok(Part { name: of, rule, bounds, owner, idle, until })
        };
        self.parts.iter().map(part).collect()
    }
}

/// The same bound of another count.
fn of_count(bound: Bound, count: NonZeroU32) -> Bound {
    let window = bound.rate.window;
    let margin = u64::from(bound.millis()).checked_sub(window.millis());
    let margin = margin.and_then(|margin| u32::try_from(margin).ok()).and_then(Margin::from_millis);
    Bound::new(Rate { count, window }, margin.unwrap_or_default())
}

// === impl Percent ===

impl Percent {
    /// So much of a count, rounded down; at least 1 of what is kept. None if that is nothing.
    fn of(self, count: NonZeroU32, idle: Idle) -> Option<NonZeroU32> {
        let part = u64::from(count.get()) * u64::from(self.0) / 100;
        let part = u32::try_from(part).ok().and_then(NonZeroU32::new);
        match idle {
            Idle::Kept => part.or(Some(NonZeroU32::MIN)),
            Idle::Lent => part,
        }
    }
}

impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let number = text.strip_suffix('%').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let percent =
            number.and_then(|number| number.parse().ok()).filter(|percent| (1..=100).contains(percent));
        percent.map(Self).ok_or_else(|| InvalidPercent(text.chars().take(80).collect()))
    }
}

impl From<IdleDocument> for Idle {
    fn from(document: IdleDocument) -> Self {
        match document {
            IdleDocument::Kept => Self::Kept,
            IdleDocument::Lent => Self::Lent,
        }
    }
}
