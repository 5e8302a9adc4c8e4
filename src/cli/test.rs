//! `tollgate test DIR`: plays the cases in `tests/*.toml` of a policy folder against the set.

mod caller;
mod coverage;
mod document;
mod play;
mod suite;

use std::path::PathBuf;

pub(in crate::cli) use self::document::schema;

use self::coverage::Coverage;
use self::suite::{Case, Suite};
use super::Failure;
use super::print::say;
use super::rehearsal::Rehearsal;
use crate::reload::PolicySource;
use crate::snapshot::Snapshot;
use crate::source::Problems;
use crate::time::Clock;

/// What `--help` says at its end.
const EXIT_CODES: &str = "\
Exit codes:
  0  every case went as it is written
  1  one did not, or the set or a case has mistakes; prints each
  2  the folder cannot be read, or has no cases";

/// Plays the cases in the folder `tests` of a policy set: calls, at times that they choose, each decided as the running
/// gateway would decide it. Says at the end what of the set no case touches.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Test {
    /// Folder with the policy set
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Test {
    pub(super) fn run(self) -> Result<(), Failure> {
        super::readable(&self.folder)?;
        let source = PolicySource::Folder(self.folder.clone());
        let cases = source.cases().map_err(|problems| super::mistakes(&problems))?;
        if cases.iter().next().is_none() {
            let tests = self.folder.join("tests");
            return Err(Failure::unable(format_args!("no cases in `{}`", tests.display())));
        }
        let files = source.files().map_err(|problems| super::mistakes(&problems))?;
        let mut problems = Problems::default();
        let version = crate::snapshot::version(&files);
        let files = suite::with_devices(files, &cases, &mut problems);
        let snapshot = Snapshot::compile(&files, None, Clock::System.wall());
        let snapshot = snapshot.map_err(|problems| super::mistakes(&problems))?;
        let mut rehearsal = Rehearsal::new(snapshot)?;
        let suite = Suite::read(&cases, &rehearsal, &mut problems);
        if !problems.is_empty() {
            return Err(super::mistakes(&problems.into_sorted()));
        }
        say(format_args!("policy {version}: {} cases", suite.cases.len()));
        play_all(&suite, &mut rehearsal)
    }
}

fn play_all(suite: &Suite, rehearsal: &mut Rehearsal) -> Result<(), Failure> {
    let mut coverage = Coverage::of(rehearsal.snapshot());
    let written = rehearsal.snapshot().policies.inventory_date();
    let mut failed = 0;
    for cases in suite.cases.chunk_by(|a, b| a.place.file == b.place.file) {
        let mut went_wrong = Vec::new();
        for case in cases {
            rehearsal.date_inventory(case.inventory.or(written));
            if let Err(mismatch) = play::play(case, rehearsal, &mut coverage) {
                went_wrong.push((case, mismatch));
            }
        }
        let Some(Case { place, .. }) = cases.first() else { continue };
        say(format_args!(
            "{}: {} passed, {} failed",
            place.file,
            cases.len() - went_wrong.len(),
            went_wrong.len()
        ));
        for (Case { name, place, .. }, mismatch) in &went_wrong {
            say(format_args!("  {place}: {name}\n    {mismatch}"));
        }
        failed += went_wrong.len();
    }
    say(format_args!("\n{coverage}\n"));
    let passed = suite.cases.len() - failed;
    if failed > 0 {
        return Err(Failure::Negative(format!("failed: {passed} passed, {failed} failed")));
    }
    say(format_args!("ok: {passed} passed"));
    Ok(())
}
