//! `tollgate`: parse the arguments, run the command, map what came of it to an exit code.

use std::process::ExitCode;

/// Short-lived small allocations on many threads: what a proxy does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: two providers are linked in, and rustls will not choose between them.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed already");
        return ExitCode::from(2);
    }
    tollgate::cli::run()
}
