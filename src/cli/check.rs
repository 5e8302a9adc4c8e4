//! `tollgate check DIR`: compile a policy set, and print every mistake, or what it holds and what is legal but odd.

use std::path::PathBuf;

use super::Failure;
use crate::reload::{PolicySource, PolicyStore};
use crate::time::Clock;

/// What `--help` says at its end.
const EXIT_CODES: &str = "\
Exit codes:
  0  the set is right; prints its version, what it holds and what its limits may take, after a line beginning with `warning:`
     for each thing that is legal but worth a second look
  1  it has mistakes; prints each as `file:line:column: mistake`
  2  the folder cannot be read";

/// Compiles a policy set, and prints every mistake in it, or else what is legal but worth a second look.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Check {
    /// Folder with the policy set
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Without the folder there is no set to judge; without one of its files there is, and it has a mistake.
        if let Err(error) = std::fs::read_dir(&self.folder) {
            return Err(Failure::unable(format_args!("cannot read `{}`: {error}", self.folder.display())));
        }
        match PolicyStore::open(PolicySource::Folder(self.folder), Clock::System) {
            Ok(store) => {
                let snapshot = store.load();
                snapshot.warnings.iter().for_each(|warning| println!("warning: {warning}"));
                println!("policy {}: {}", snapshot.version, snapshot.counts());
                let (keys, bytes) = (snapshot.quotas.max_keys(), snapshot.quotas.worst_case_bytes());
                println!(
                    "limiter: at most {keys} keys, {} MiB if all of them are full",
                    bytes.div_ceil(1 << 20)
                );
                Ok(())
            }
            Err(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                Err(Failure::Negative(lines.join("\n")))
            }
        }
    }
}
