//! `tollgate check DIR`: compile a policy set, and print every mistake, or what it holds and what is legal but odd.

mod report;

use std::path::PathBuf;

use self::report::Report;
use super::Failure;
use super::print::{Pointed, say};
use crate::reload::PolicySource;
use crate::snapshot::Snapshot;
use crate::source::Problem;
use crate::time::Clock;

/// What `--help` says at its end.
const EXIT_CODES: &str = "\
Exit codes:
  0  the set is right; prints its version, what it holds and the most memory that its limits may take, after a
     paragraph beginning with `warning:`
     for each thing that is legal but worth a second look
  1  it has mistakes; prints each as `file:line:column: mistake`, with the line and a hint
  2  the folder cannot be read";

/// Compiles a policy set, and prints every mistake in it, or else what is legal but worth a second look.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Check {
    /// Folder with the policy set
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How to print what is found: for people, or one JSON object for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// For whom it is printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// The one way in which windows may pass too early.
const SURVIVES: &str = "limiter: with --state windows outlive the process; after a new boot of the machine they pass by the calendar's clock, and early if that was set forward meanwhile";

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Without the folder there is no set to judge; without one of its files there is, and it has a mistake.
        super::readable(&self.folder)?;
        let files = PolicySource::Folder(self.folder).files();
        let compiled = files.and_then(|files| Snapshot::compile(&files, None, Clock::System.wall()));
        match (self.format, compiled) {
            (Format::Text, Ok(snapshot)) => {
                snapshot
                    .warnings
                    .iter()
                    .for_each(|warning| say(format_args!("warning: {}\n", Pointed(warning))));
                say(format_args!("policy {}: {}", snapshot.version, snapshot.counts()));
                let (keys, bytes) = (snapshot.quotas.max_keys(), snapshot.quotas.worst_case_bytes());
                let mebibytes = bytes.div_ceil(1 << 20);
                say(format_args!("limiter: at most {keys} keys, {mebibytes} MiB if all of them are full"));
                say(format_args!("{SURVIVES}"));
                Ok(())
            }
            (Format::Text, Err(problems)) => Err(super::mistakes(&problems)),
            (Format::Json, compiled) => print_json(compiled.as_ref().map_err(Vec::as_slice)),
        }
    }
}

fn print_json(compiled: Result<&Snapshot, &[Problem]>) -> Result<(), Failure> {
    let report = serde_json::to_string_pretty(&Report::new(compiled)).map_err(Failure::unable)?;
    say(format_args!("{report}"));
    compiled.map(|_| ()).map_err(|problems| Failure::Negative(super::counted(problems)))
}
