//! The command line: one file a command.

mod check;
mod diff;
mod explain;
mod inventory;
mod limits;
mod print;
mod rehearsal;
mod replay;
mod sandbox;
mod schema;
mod serve;
mod test;

use std::collections::BTreeSet;
use std::fmt;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use self::print::Pointed;
use crate::source::Problem;

/// A reverse proxy that decides which calls may reach the Microsoft Defender for Endpoint API
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in front of the API
    Serve(Box<serve::Serve>),
    /// Try the gateway: runs it in front of stand-ins for the API and the token issuer, and prints calls to paste
    Sandbox(sandbox::Sandbox),
    /// Compile a policy set and print every mistake in it
    Check(check::Check),
    /// Say what changes between two policy sets, and for whom
    Diff(diff::Diff),
    /// Say how the gateway would decide a call, step by step
    Explain(Box<explain::Explain>),
    /// Print what may stand in policy files, as JSON Schemas
    Schema(schema::Schema),
    /// Bring the device inventory
    Inventory(inventory::Inventory),
    /// Print the fullest limits of a running gateway
    Limits(limits::Limits),
    /// Play the cases of a policy set and compare what becomes of them with what must
    Test(test::Test),
}

/// Why a command ended badly.
#[derive(Debug)]
enum Failure {
    /// It was asked to judge something, and the judgement is no: exit code 1.
    Negative(String),
    /// It could not run: exit code 2.
    Unable(String),
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error),
    };
    let done = match command {
        Command::Serve(serve) => serve.run(),
        Command::Sandbox(sandbox) => sandbox.run(),
        Command::Check(check) => check.run(),
        Command::Diff(diff) => diff.run(),
        Command::Explain(explain) => explain.run(),
        Command::Schema(schema) => schema.run(),
        Command::Inventory(inventory) => inventory.run(),
        Command::Limits(limits) => limits.run(),
        Command::Test(test) => test.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            match failure {
                Failure::Negative(_) => ExitCode::from(1),
                Failure::Unable(_) => ExitCode::from(2),
            }
        }
    }
}

/// Says what is wrong with the arguments in one line, with what was probably meant or may be given. Help that was asked
/// for, or that answers no arguments at all, is printed whole.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // To standard output where it was asked for (`--help`), to standard error otherwise.
            let _ = error.print();
        }
        _ => {
            let text = error.to_string();
            let said = text.split("\n\n").map(str::trim).take_while(|paragraph| !is_general(paragraph));
            let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("{}", said.map(one_line).collect::<Vec<_>>().join("; "));
        }
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Whether a paragraph of clap's says how the command is used, and not what is wrong with this use of it.
fn is_general(paragraph: &str) -> bool {
    paragraph.starts_with("Usage:") || paragraph.starts_with("For more information")
}

/// Installs the log: standard error, filtered.
fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let parsed = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::Unable(format!("error: `--log {filter}`: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        // A journal or a file gets no colours.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// That a folder can be read at all.
fn readable(folder: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::unable(format_args!("cannot read `{}`: {error}", folder.display()))),
    }
}

/// The mistakes of a policy set, each with its line, and how many there are.
fn mistakes(problems: &[Problem]) -> Failure {
    let mut paragraphs: Vec<_> = problems.iter().map(|problem| Pointed(problem).to_string()).collect();
    paragraphs.push(counted(problems));
    Failure::Negative(paragraphs.join("\n\n"))
}

/// `3 mistakes in 2 files`
fn counted(problems: &[Problem]) -> String {
    let files: BTreeSet<_> = problems.iter().map(|problem| &problem.file).collect();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let (problems, files) = (problems.len(), files.len());
    format!("{problems} mistake{} in {files} file{}", plural(problems), plural(files))
}

impl Failure {
    /// It could not run, in the error's own words: a line for each of its lines.
    fn unable(error: impl fmt::Display) -> Self {
        let lines: Vec<_> = error.to_string().lines().map(|line| format!("error: {line}")).collect();
        Self::Unable(lines.join("\n"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Negative(text) | Self::Unable(text)) = self;
        f.write_str(text)
    }
}
