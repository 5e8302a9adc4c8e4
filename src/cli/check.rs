//! `tollgate check DIR`: compile a policy set, and print every mistake, or what is legal but odd.

use std::path::PathBuf;

use super::Failure;
use crate::reload::{PolicySource, PolicyStore};
use crate::time::Clock;

/// Prints `file:line:column: mistake` for each, and exits with 1 if there is any. Without a mistake it prints
/// `warning: file:line:column: …` for what is legal but worth a second look, and exits with 0.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Folder with the policy set
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        match PolicyStore::open(PolicySource::Folder(self.folder), Clock::System) {
            Ok(store) => {
                let snapshot = store.load();
                snapshot.warnings.iter().for_each(|warning| println!("warning: {warning}"));
                println!("policy {}: {}", snapshot.version, snapshot.counts());
                Ok(())
            }
            Err(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                Err(Failure::Negative(lines.join("\n")))
            }
        }
    }
}
