//! The keys of issuers, before this process takes another's place: that one has them.

use std::time::Duration;

use crate::server::StartError;
use crate::time::Clock;
use crate::token::{Verifier, refresh_now};

/// For all issuers together: the running process waits twice as long for this one to be ready, which has compiled its
/// policy before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches the keys of every issuer, in order that no caller is told that they are not there yet. It blocks the thread.
///
/// # Errors
/// The first issuer whose keys can't be had.
pub(super) fn fetch(verifier: &Verifier, clock: &Clock) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // What came of it is what each issuer's state says.
    // Made within the runtime: its timer needs one.
    let fetched = async { clock.timeout(PATIENCE, refresh_now(verifier, clock)).await };
    let _ = runtime.map_err(StartError::Thread)?.block_on(fetched);
    match verifier.issuers(clock).find(|issuer| issuer.keys == 0) {
        None => Ok(()),
        Some(issuer) => Err(StartError::Keys {
            issuer: issuer.name,
            source_name: issuer.source,
            error: issuer.error.unwrap_or_else(|| "no answer in time".into()),
        }),
    }
}
