//! Plays a case and compares what becomes of it with what must.

use std::fmt;
use std::time::Duration;

use super::coverage::Coverage;
use super::document::Tokens;
use super::suite::{Case, Expected, Step, Verdict};
use crate::cli::rehearsal::{Played, Rehearsal, WAITING};
use crate::outcome::Standing;

/// What became of a call otherwise than it must.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// Which step it is, from 1, of a case that has several.
    step: Option<usize>,
    /// Which time it is made, from 1, of a call that is made several times.
    time: Option<u32>,
    at: Duration,
    what: String,
}

/// Plays a case to its end, or to the first call that went otherwise.
pub(super) fn play(case: &Case, rehearsal: &Rehearsal, coverage: &mut Coverage) -> Result<(), Mismatch> {
    let stage = rehearsal.stage(case.begins);
    for (action, device) in &case.actions {
        stage.actions().record(action.clone(), device.clone());
    }
    for (number, step) in case.steps.iter().enumerate() {
        let Step { at, repeat, tokens, caller, call, expected } = step;
        stage.advance((case.begins + *at).since(stage.now()));
        let token = || caller.as_ref().map(|caller| rehearsal.sign(&caller.claims(stage.now(), rehearsal)));
        let mut brought = token();
        for time in 1..=*repeat {
            if *tokens == Tokens::New {
                brought = token();
            }
            let played = stage.play(call, brought.as_deref());
            coverage.note(&played, rehearsal.snapshot());
            if let Err(what) = compare(expected, &played) {
                let step = (case.steps.len() > 1).then_some(number + 1);
                return Err(Mismatch { step, time: (*repeat > 1).then_some(time), at: *at, what });
            }
        }
    }
    Ok(())
}

fn compare(expected: &Expected, played: &Played) -> Result<(), String> {
    let Played { findings, verdict, held, .. } = played;
    let found = match verdict {
        Ok(()) => Verdict::Admitted,
        Err(denial) => Verdict::Refused(denial.reason()),
    };
    if found != expected.verdict {
        let said = verdict.as_ref().err().map(|denial| format!(": {denial}")).unwrap_or_default();
        return Err(format!("expected `{}`, found `{found}`{said}", expected.verdict));
    }
    let if_enforced = findings.would_refuse().map_or(found, Verdict::Refused);
    if let Some(wanted) = expected.if_enforced.filter(|wanted| *wanted != if_enforced) {
        return Err(format!("expected `{wanted}` if it were enforced, found `{if_enforced}`"));
    }
    let operation = findings.operation.as_ref().map_or("none", |operation| operation.as_str());
    if let Some(wanted) = expected.operation.as_ref().filter(|wanted| *wanted != operation) {
        return Err(format!("expected the operation `{wanted}`, found `{operation}`"));
    }
    for (item, wanted) in &expected.left {
        let found = findings.standings.iter().find(|standing| name(standing) == *item);
        match found {
            Some(standing) if standing.remaining == *wanted => {}
            Some(Standing { remaining, .. }) => {
                return Err(format!("expected {wanted} left of `{item}`, found {remaining}"));
            }
            None => {
                let all: Vec<_> =
                    findings.standings.iter().map(|standing| format!("`{}`", name(standing))).collect();
                return Err(format!("no limit `{item}` applied, those that did are {}", all.join(", ")));
            }
        }
    }
    if let Some(wanted) =
        expected.held.filter(|wanted| held.saturating_sub(*wanted) >= WAITING || held < wanted)
    {
        let [wanted, held] = [wanted, *held].map(|long| long.as_secs_f64());
        return Err(format!("expected it held for {wanted} s, found {held} s"));
    }
    let retry_after = verdict.as_ref().err().and_then(|denial| denial.retry_after());
    match (expected.retry_after, retry_after) {
        (Some(wanted), found) if found != Some(wanted) => {
            let found = found.map_or("none".to_owned(), |seconds| format!("{seconds} s"));
            Err(format!("expected `Retry-After` of {wanted} s, found {found}"))
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// As `RateLimit` calls it: `collect_investigation_package-minute`.
fn name(standing: &Standing) -> String {
    format!("{}-{}", standing.limit, standing.rate.window)
}

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted => f.write_str("admitted"),
            Self::Refused(reason) => fmt::Display::fmt(reason, f),
        }
    }
}

// === impl Mismatch ===

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, time, at, what } = self;
        if let Some(step) = step {
            write!(f, "step {step}, {} s after the beginning", at.as_secs_f64())?;
            time.iter().try_for_each(|time| write!(f, ", call {time}"))?;
            f.write_str(": ")?;
        }
        f.write_str(what)
    }
}
