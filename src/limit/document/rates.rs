//! The windows of a limit.

use std::ops::Range;

use smallvec::SmallVec;
use toml::Spanned;

use super::{Compiler, LimitDocument, margin};
use crate::limit::window::{Bound, Bounds};
use crate::outcome::Rate;

/// What cannot be meant: two rates of one window, a longer window that makes a shorter one pointless, or the reverse.
/// `rates` are in the order of their windows.
pub(super) fn contradictions(rates: &[Rate]) -> Vec<String> {
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
    pub(super) fn rates(&mut self, windows: &Spanned<Vec<Spanned<String>>>) -> SmallVec<[Rate; 2]> {
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

    /// The windows of a limit; none for one that bounds something else.
    pub(super) fn bounds(&mut self, document: &LimitDocument, span: Range<usize>) -> Bounds {
        let rates = match &document.windows {
            Some(windows) => self.rates(windows),
            None if document.in_flight.is_some() || document.open_actions.is_some() => SmallVec::new(),
            None => {
                self.problems.at(self.source, span, "missing field `windows`");
                SmallVec::new()
            }
        };
        let margin = margin(self.source, document.margin.as_ref(), self.problems);
        Bounds::new(rates.into_iter().map(|rate| Bound::new(rate, margin)))
    }
}
