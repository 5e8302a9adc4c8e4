//! Limits on actions under way, and what cannot be said of a limit that counts other things than windows.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::{Compiler, LimitDocument};
use crate::id::OperationId;
use crate::limit::open::{MAX_OPEN_FOR, OpenActions};
use crate::limit::quota::Starts;
use crate::limit::window::Bounds;

/// Three days: the service keeps an action for a device that is offline for so long (run-live-response.md).
const DEFAULT_OPEN_FOR: Duration = Duration::from_secs(3 * 86_400);

/// A minute: no action that is worth counting is sooner over.
const OPEN_FOR: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_OPEN_FOR;

// === impl Compiler ===

impl Compiler<'_> {
    /// How many actions may be under way, and how long each counts; none where that is not bounded.
    pub(super) fn open_actions(
        &mut self,
        document: &LimitDocument,
        operations: &[OperationId],
    ) -> Option<(NonZeroU32, Duration)> {
        let Some(most) = &document.open_actions else {
            if let Some(word) = &document.open_for {
                self.problems.at(self.source, word.span(), "`open_for` without `open_actions`");
            }
            return None;
        };
        if most.get_ref().get() as usize > OpenActions::MAX {
            let message = format!("no more than {} actions are counted", OpenActions::MAX);
            self.problems.at(self.source, most.span(), message);
        }
        for operation in operations {
            let starts = self.of.get(operation).map(|limit| limit.starts);
            if starts == Some(Starts::Nothing) {
                let span = document.operations.as_ref().map_or(most.span(), Spanned::span);
                let message = format!("`{operation}` starts no action, which this limit counts");
                self.problems.at(self.source, span, message);
            }
        }
        let open_for = match &document.open_for {
            None => Some(DEFAULT_OPEN_FOR),
            Some(word) => {
                let long = time(word.get_ref()).filter(|long| OPEN_FOR.contains(long));
                if long.is_none() {
                    let text: String = word.get_ref().chars().take(80).collect();
                    let message = format!("`{text}` is not a time such as `3d`, 1m to 30d");
                    self.problems.at(self.source, word.span(), message);
                }
                long
            }
        };
        Some((*most.get_ref(), open_for?))
    }

    /// What cannot be said of a limit that has no windows, and of one that has more than windows.
    pub(super) fn without_windows(&mut self, document: &LimitDocument, bounds: &Bounds) {
        let (field, counted, span) = match (&document.in_flight, &document.open_actions) {
            (Some(most), _) => ("in_flight", "calls on their way", most.span()),
            (None, Some(most)) => ("open_actions", "actions under way", most.span()),
            (None, None) => return,
        };
        if let Some(share) = &document.share {
            let message = format!("a share is a part of windows, not of {counted}");
            self.problems.at(self.source, share.span(), message);
            let hint = format!("write two limits, one with `{field}` and one with the share");
            self.problems.hint(Some(hint));
        }
        if !bounds.each().is_empty() {
            return;
        }
        let spans = [
            ("margin", document.margin.as_ref().map(Spanned::span)),
            ("cost", document.cost.as_ref().map(Spanned::span)),
        ];
        for (field, span) in spans {
            if let Some(span) = span {
                let message = format!("`{field}` is of windows, and this limit has none");
                self.problems.at(self.source, span, message);
            }
        }
        if document.when_full.as_ref().is_some_and(|word| word.get_ref().waits()) {
            let message = format!(
                "nobody can tell how long to wait for {counted}: only windows open at a known moment"
            );
            self.problems.at(self.source, span, message);
        }
    }
}

/// A time that may be written in days, each of 24 hours.
fn time(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    let long = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(long).ok()
}
