//! The README says what the code does: its tables are the code's own.

use std::fmt::Write;

use tollgate::outcome::ReasonCode;
use tollgate::proxy::reply::{Challenge, Connection, row};
use tollgate::telemetry::metrics::Metrics;

const README: &str = include_str!("../README.md");

/// Fails the test with the right table if the README has another.
fn holds(what: &str, table: &str) {
    assert!(README.contains(table.trim()), "the README's table of {what} should be\n\n{table}");
}

#[test]
fn the_readme_has_the_table_of_metrics() {
    holds("metrics", &Metrics::readme_table());
}

#[test]
fn the_readme_has_the_table_of_answers() {
    let mut table = String::from(
        "| `Tollgate-Reason` | status | `code` | `WWW-Authenticate` | connection |\n|---|---|---|---|---|\n",
    );
    for reason in ReasonCode::ALL {
        let Some(row) = row(*reason) else { continue };
        let challenge = match row.challenge {
            Challenge::None => String::new(),
            Challenge::Bare => "`Bearer`".to_owned(),
            Challenge::Error(error) => format!("`Bearer error=\"{error}\"`"),
        };
        let connection = match row.connection {
            Connection::Kept => "",
            Connection::Closed => "closed",
        };
        writeln!(
            table,
            "| `{reason}` | {} | {} | {challenge} | {connection} |",
            row.status.as_u16(),
            row.code
        )
        .unwrap();
    }
    holds("answers", &table);
}

/// The flags of `tollgate serve` are those that the README lists, and each names its variable.
#[test]
fn the_readme_names_every_flag_of_serve() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags: Vec<_> =
        help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2).collect();
    assert!(flags.len() > 10, "{help}");
    for flag in flags.iter().map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())) {
        if !["--help", "--version"].contains(&flag) {
            assert!(README.contains(&format!("`{flag}")), "the README lacks `{flag}`");
        }
    }
}
