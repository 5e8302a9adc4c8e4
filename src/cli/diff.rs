//! `tollgate diff OLD NEW`: what a change of the policy comes to, for whom, and for which calls of an audit.

mod again;
mod facts;

use std::path::{Path, PathBuf};

use self::facts::changes;
use super::Failure;
use super::print::say;
use super::rehearsal::Rehearsal;
use crate::reload::PolicySource;
use crate::snapshot::Snapshot;
use crate::time::Clock;

/// What `--help` says at its end.
const NOTES: &str = "\
With --audit, each decision of the file that the policy made is made again by both sets, in the order of the file and
at its time. Listed is what the two decide differently, and what OLD decides otherwise than the file has it, where
the file says that it was decided by OLD: that cannot be replayed faithfully.
Exit codes:
  0  nothing changes
  1  something does, or may where a decision cannot be replayed faithfully, or a set has mistakes
  2  a folder or the file cannot be read";

/// Says what changes between two policy sets, and for whom; with an audit, also which of its decisions would differ.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Diff {
    /// Folder with the policy set before
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Folder with the policy set after
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Audit file whose decisions are made again
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
}

impl Diff {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (old, new) = (snapshot(&self.old)?, snapshot(&self.new)?);
        let (mut changed, mut unfaithful) = (0, 0);
        for (subject, facts) in changes(&old, &new) {
            say(format_args!("{subject}"));
            facts.iter().for_each(|fact| say(format_args!("  {fact}")));
            changed += facts.len();
        }
        if let Some(audit) = &self.audit {
            let counts = again::list(audit, &Rehearsal::new(old)?, &Rehearsal::new(new)?)?;
            changed += counts.differ;
            unfaithful = counts.unfaithful;
        }
        match (changed, unfaithful) {
            (0, 0) => {
                say("nothing changes");
                Ok(())
            }
            (0, 1) => Err(Failure::Negative("1 decision cannot be replayed faithfully".to_owned())),
            (0, more) => Err(Failure::Negative(format!("{more} decisions cannot be replayed faithfully"))),
            (1, _) => Err(Failure::Negative("1 difference".to_owned())),
            (more, _) => Err(Failure::Negative(format!("{more} differences"))),
        }
    }
}

fn snapshot(folder: &Path) -> Result<Snapshot, Failure> {
    super::readable(folder)?;
    let files = PolicySource::Folder(folder.to_owned()).files();
    let compiled = files.and_then(|files| Snapshot::compile(&files, None, Clock::System.wall()));
    compiled.map_err(|problems| super::mistakes(&problems))
}
