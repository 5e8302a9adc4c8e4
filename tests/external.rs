//! What only another program can judge: a shell and curl, which paste what the sandbox prints, Microsoft's own OAuth
//! client, and Prometheus' own reader of metrics.
//!
//! These tests run with `TOLLGATE_EXTERNAL=1` alone, and then fail where a program is missing. Without it each says
//! that it was left out, and counts them.

mod clients;
mod curl;
mod msal;
mod paste;
mod promtool;

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many tests were left out.
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);

/// Whether a test that needs these programs is to run.
fn wanted(programs: &[&str]) -> bool {
    if std::env::var_os("TOLLGATE_EXTERNAL").is_none_or(|value| value != "1") {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        // Straight to the stream: what a test that passes prints is not shown.
        let count = LEFT_OUT.fetch_add(1, Ordering::Relaxed) + 1;
        let needs = programs.join(" and ");
        let line = format!("left out, {count} so far: {name} needs {needs}, set TOLLGATE_EXTERNAL=1\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return false;
    }
    for program in programs {
        let found = Command::new(program).arg("--version").output();
        assert!(found.is_ok(), "TOLLGATE_EXTERNAL=1, and `{program}` cannot be run: {found:?}");
    }
    true
}
