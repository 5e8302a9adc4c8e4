//! The decisions of an audit, made again by two sets.
//!
//! What both sets decide alike in a replay may still be another thing than what was decided, where a replay lacks what
//! the gateway had: the windows that were filled before the file begins, how old the inventory was, which calls were on
//! their way. So each replay by the old set is compared with the line, where that was written under the same version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::cli::Failure;
use crate::cli::print::say;
use crate::cli::rehearsal::{Rehearsal, Stage};
use crate::cli::replay::{Recorded, Unplayable};
use crate::id::ActionId;
use crate::outcome::ReasonCode;
use crate::time::Wall;

/// One set, and the windows that the calls so far have filled under it.
struct Side<'r> {
    rehearsal: &'r Rehearsal,
    stage: Stage<'r>,
    /// The actions under way, the oldest first, by the line of the call that started each.
    actions: VecDeque<(usize, ActionId)>,
}

/// The two sets, and the new one with a caller who is in all groups that it alone names: in windows of its own, so that
/// no call is counted twice.
struct Sides<'r> {
    before: Side<'r>,
    after: Side<'r>,
    member: Side<'r>,
}

/// What became of the lines of a file.
#[derive(Default)]
pub(super) struct Counts {
    again: usize,
    /// Decisions that the two sets make differently.
    pub(super) differ: usize,
    /// Decisions that the old set does not make as it did.
    pub(super) unfaithful: usize,
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

/// Lists every decision that the two sets make differently, and every one that the old set does not make as it did, and
/// says how many there are.
pub(super) fn list(path: &Path, old: &Rehearsal, new: &Rehearsal) -> Result<Counts, Failure> {
    let unread =
        |error: std::io::Error| Failure::unable(format_args!("cannot read `{}`: {error}", path.display()));
    let lines = BufReader::new(File::open(path).map_err(unread)?).lines();
    // Groups that only the new set names: the lines do not tell who is in them.
    let known: BTreeSet<_> = old.snapshot().policies.entra_groups().collect();
    let unknown = new.snapshot().policies.entra_groups().filter(|group| !known.contains(group));
    let unknown: Vec<_> = unknown.map(ToString::to_string).collect();

    let mut sides: Option<Sides<'_>> = None;
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
        let Sides { before, after, member } = sides.get_or_insert_with(|| Sides {
            before: Side::new(old, time),
            after: Side::new(new, time),
            member: Side::new(new, time),
        });
        let recalled = recorded.policy_version.as_deref() == Some(&*old.snapshot().version);
        let (recorded_as, mut was) = (recorded.decision(), before.decide(index, &recorded, time, &[]));
        // There was room then: some action must have ended by that time, and the oldest is the likeliest.
        while recalled && was == Decided::Refused(ReasonCode::OpenActions) && was.to_string() != recorded_as {
            let Some((started, action)) = before.actions.pop_front() else { break };
            before.stage.end(&action);
            after.end(started);
            member.end(started);
            was = before.decide(index, &recorded, time, &[]);
        }
        let would_be = after.decide(index, &recorded, time, &[]);
        let of_member = member.decide(index, &recorded, time, &unknown);
        counts.again += 1;
        counts.other_version += usize::from(!recalled);
        let (caller, on) = (recorded.caller(), recorded.on());
        let call = recorded.operation.as_deref().unwrap_or_default();
        if recalled && was.to_string() != recorded_as {
            counts.unfaithful += 1;
            say(format_args!(
                "{time} {caller} calls `{call}`{on}: cannot be replayed faithfully: was {recorded_as}, and {was} in the replay"
            ));
        }
        if was == would_be && would_be == of_member {
            continue;
        }
        counts.differ += 1;
        let maybe = if would_be == of_member {
            String::new()
        } else {
            format!(", or {of_member} for a user in the groups that only the new set names")
        };
        say(format_args!("{time} {caller} calls `{call}`{on}: was {was}, would be {would_be}{maybe}"));
    }
    counts.print();
    Ok(counts)
}

// === impl Side ===

impl<'r> Side<'r> {
    fn new(rehearsal: &'r Rehearsal, beginning: Wall) -> Self {
        Self { rehearsal, stage: rehearsal.stage(beginning), actions: VecDeque::new() }
    }

    fn decide(&mut self, line: usize, recorded: &Recorded, time: Wall, groups: &[String]) -> Decided {
        self.stage.advance(time.since(self.stage.now()));
        let Ok(operation) = recorded.operation(self.rehearsal) else {
            return Decided::Refused(ReasonCode::NoOperation);
        };
        let (_, played) = recorded.play(operation, groups, &self.stage, self.rehearsal);
        self.actions.extend(played.started.map(|action| (line, action)));
        match (played.verdict, played.findings.would_refuse()) {
            (Err(denial), _) => Decided::Refused(denial.reason()),
            (Ok(()), Some(reason)) => Decided::Tried(reason),
            (Ok(()), None) => Decided::Admitted,
        }
    }

    /// The action that the call of a line has started, if it has, is over.
    fn end(&mut self, line: usize) {
        let place = self.actions.binary_search_by_key(&line, |(started, _)| *started);
        if let Some((_, action)) = place.ok().and_then(|place| self.actions.remove(place)) {
            self.stage.end(&action);
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
        if self.unfaithful > 0 {
            let count = self.unfaithful;
            say(format_args!("not decided in the replay by the old set as they were: {count}"));
        }
        if self.other_version > 0 {
            let count = self.other_version;
            say(format_args!("made under another version than that of the old set: {count}"));
        }
    }
}
