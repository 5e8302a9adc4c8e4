//! The decisions of an audit, made again by two sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::cli::Failure;
use crate::cli::print::say;
use crate::cli::rehearsal::{Rehearsal, Stage};
use crate::cli::replay::{Recorded, Unplayable};
use crate::outcome::ReasonCode;
use crate::time::Wall;

/// One set, and the windows that the calls so far have filled under it.
struct Side<'r> {
    rehearsal: &'r Rehearsal,
    stage: Stage<'r>,
}

/// What became of the lines of a file.
#[derive(Default)]
struct Counts {
    again: usize,
    differ: usize,
    skipped: BTreeMap<Unplayable, usize>,
    /// Lines that were written under another version than the old set's.
    other_version: usize,
}

/// What a set decides of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    Admitted,
    /// It passes since what refuses it is not enforced.
    Tried(ReasonCode),
    /// Also for want of an operation that a set lacks.
    Refused(ReasonCode),
}

/// Lists every decision that the two sets make differently, and says how many there are.
pub(super) fn list(path: &Path, old: &Rehearsal, new: &Rehearsal) -> Result<usize, Failure> {
    let unread =
        |error: std::io::Error| Failure::unable(format_args!("cannot read `{}`: {error}", path.display()));
    let lines = BufReader::new(File::open(path).map_err(unread)?).lines();
    // Groups that only the new set names: the lines do not tell who is in them.
    let known: BTreeSet<_> = old.snapshot().policies.entra_groups().collect();
    let unknown = new.snapshot().policies.entra_groups().filter(|group| !known.contains(group));
    let unknown: Vec<_> = unknown.map(ToString::to_string).collect();

    let mut sides: Option<[Side<'_>; 3]> = None;
    let mut counts = Counts::default();
    for (index, line) in lines.enumerate() {
        let line = line.map_err(unread)?;
        let recorded: Recorded = serde_json::from_str(&line).map_err(|error| {
            Failure::unable(format_args!("`{}`, line {}: {error}", path.display(), index + 1))
        })?;
        let time = match recorded.is_playable() {
            Ok(time) => time,
            Err(why) => {
                *counts.skipped.entry(why).or_default() += 1;
                continue;
            }
        };
        let sides = sides.get_or_insert_with(|| [old, new, new].map(|rehearsal| Side::new(rehearsal, time)));
        let [before, after, member] = sides;
        let (before, after) = (before.decide(&recorded, time, &[]), after.decide(&recorded, time, &[]));
        // In windows of its own, so that no call is counted twice.
        let member = member.decide(&recorded, time, &unknown);
        counts.again += 1;
        let version = recorded.policy_version.as_deref();
        counts.other_version += usize::from(version != Some(&*old.snapshot().version));
        if before == after && after == member {
            continue;
        }
        counts.differ += 1;
        let maybe = if after == member {
            String::new()
        } else {
            format!(", or {member} for a user in the groups that only the new set names")
        };
        let (caller, on) = (recorded.caller(), recorded.on());
        let call = recorded.operation.as_deref().unwrap_or_default();
        say(format_args!("{time} {caller} calls `{call}`{on}: was {before}, would be {after}{maybe}"));
    }
    counts.print();
    Ok(counts.differ)
}

// === impl Side ===

impl<'r> Side<'r> {
    fn new(rehearsal: &'r Rehearsal, beginning: Wall) -> Self {
        Self { rehearsal, stage: rehearsal.stage(beginning) }
    }

    fn decide(&self, recorded: &Recorded, time: Wall, groups: &[String]) -> Decided {
        self.stage.advance(time.since(self.stage.now()));
        let Ok(operation) = recorded.operation(self.rehearsal) else {
            return Decided::Refused(ReasonCode::NoOperation);
        };
        let (_, played) = recorded.play(operation, groups, &self.stage, self.rehearsal);
        match (played.verdict, played.findings.would_refuse()) {
            (Err(denial), _) => Decided::Refused(denial.reason()),
            (Ok(()), Some(reason)) => Decided::Tried(reason),
            (Ok(()), None) => Decided::Admitted,
        }
    }
}

// === impl Decided ===

/// As the audit calls it: `admitted`, or the reason.
impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted => f.write_str("`admitted`"),
            Self::Tried(reason) => write!(f, "`admitted` with `{reason}` not enforced"),
            Self::Refused(reason) => write!(f, "`{reason}`"),
        }
    }
}

// === impl Counts ===

impl Counts {
    fn print(&self) {
        say(format_args!("\n{} decisions were made again, {} differ", self.again, self.differ));
        for (why, count) in &self.skipped {
            say(format_args!("left out {count}: {why}"));
        }
        if self.other_version > 0 {
            let count = self.other_version;
            say(format_args!("made under another version than that of the old set: {count}"));
        }
    }
}
