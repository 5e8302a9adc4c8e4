//! How many files the process may have open, and how many connections that leaves.
//!
//! What can go wrong where more connections are allowed than there are files: a thousand clients that say nothing take
//! the last one, and then no call reaches the API, no policy is read, and nobody sees why. So the system is asked for all
//! that it gives, and connections are bounded by what it gave.

use std::num::{NonZeroU32, NonZeroUsize};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proxy::Bounds;
use crate::server::StartError;

/// Files for all that is neither a thread's, nor a client's connection, nor a call's to the API: up to 32 connections of
/// operators, some 20 for listeners and threads that serve nobody, 10 for the audit and the state, and the rest for a policy
/// that is read, keys that are fetched, names that are looked up, places that are tried and a process that takes over.
const RESERVE: u32 = 124;

/// What the runtime of a thread that serves waits on.
const OF_A_THREAD: u32 = 4;

/// Files that a call on its way can come to: one to the API, one that another thread keeps to it, and, in an upgrade, two
/// for another call that is relayed. A process has as many calls of its own as there may be, and as many that the process
/// before it relays, each of which comes on a file and goes out on another.
const OF_A_CALL: u32 = 4;

/// Connections of clients, each with a call, below which there is no sense in a start.
const FEWEST: u32 = 16;

/// What the system gives is too little to serve anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{files} open files are too few: {reserve} are needed beside connections, and five for each of at least {FEWEST}"
)]
pub struct TooFewFiles {
    files: u32,
    reserve: u32,
}

/// Has the system give as many files as it will, and lowers what clients may take to what these are enough for.
///
/// # Errors
/// If not even a few clients could be served.
pub(super) fn fit(bounds: &mut Bounds, threads: NonZeroUsize) -> Result<(), StartError> {
    let (files, reserve) = (raise(), reserve(threads));
    let affordable = affordable(bounds, files, reserve)?;
    let (asked, connections) = (bounds.connections, affordable.connections);
    if connections < asked {
        tracing::warn!(
            "the system gives {files} open files: {connections} connections of clients are taken at once in the place of {asked}, which need {}",
            needed(bounds, reserve)
        );
    }
    let (asked, in_flight) = (bounds.in_flight, affordable.in_flight);
    if in_flight < asked {
        tracing::warn!(
            "the system gives {files} open files: {in_flight} requests are in flight at once in the place of {asked}"
        );
    }
    (bounds.connections, bounds.in_flight) = (connections, in_flight);
    Ok(())
}

/// Raises what may be open to what the system allows at most; how many files that is.
fn raise() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the number of open files cannot be raised");
            limit.current
        }
    };
    files.and_then(|files| u32::try_from(files).ok()).unwrap_or(u32::MAX)
}

/// How many files these bounds can come to. Held calls are not among them: those that are relayed in an upgrade have a file
/// in each process, for as long as they are held there again.
fn needed(bounds: &Bounds, reserve: u32) -> u32 {
    bounds.connections.get().saturating_add(of_calls(bounds)).saturating_add(reserve)
}

/// For all else, with so many threads that serve.
fn reserve(threads: NonZeroUsize) -> u32 {
    let threads = u32::try_from(threads.get()).unwrap_or(u32::MAX);
    RESERVE.saturating_add(threads.saturating_mul(OF_A_THREAD))
}

fn of_calls(bounds: &Bounds) -> u32 {
    bounds.in_flight.get().saturating_mul(OF_A_CALL)
}

/// What of both is bounded by the number of files.
#[derive(Debug, PartialEq, Eq)]
struct Affordable {
    connections: NonZeroU32,
    in_flight: NonZeroU32,
}

/// Where there is no room for all of both, connections have so much of it that each can have a call.
fn affordable(bounds: &Bounds, files: u32, reserve: u32) -> Result<Affordable, TooFewFiles> {
    let room = files.saturating_sub(reserve);
    let each = NonZeroU32::new(room / (1 + OF_A_CALL));
    let each = each.filter(|each| each.get() >= FEWEST).ok_or(TooFewFiles { files, reserve })?;
    let beside_calls = NonZeroU32::new(room.saturating_sub(of_calls(bounds))).unwrap_or(each);
    let connections = bounds.connections.min(each.max(beside_calls));
    let calls = NonZeroU32::new((room - connections.get()) / OF_A_CALL).unwrap_or(each);
    Ok(Affordable { connections, in_flight: bounds.in_flight.min(calls) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(connections: u32, in_flight: u32) -> Bounds {
        let count = |count| NonZeroU32::new(count).unwrap();
        Bounds { connections: count(connections), in_flight: count(in_flight), ..Bounds::default() }
    }

    #[test]
    fn connections_and_calls_on_their_way_have_their_files_beside_the_reserve() {
        let reserve = reserve(NonZeroUsize::MIN);
        assert_eq!(reserve, 128);
        let too_few = |files| Err(TooFewFiles { files, reserve });
        for (asked, files, expected) in [
            ((10_000, 1_024), 14_224, Ok((10_000, 1_024))),
            ((10_000, 1_024), 14_223, Ok((9_999, 1_024))),
            ((10_000, 1_024), 5_248, Ok((1_024, 1_024))),
            ((10_000, 1_024), 4_096, Ok((793, 793))),
            ((10_000, 1_024), 1_024, Ok((179, 179))),
            // Over HTTP/2, few connections have many calls.
            ((100, 1_024), 1_024, Ok((100, 199))),
            ((10, 10), 208, Ok((10, 10))),
            ((10_000, 1_024), 208, Ok((16, 16))),
            ((10_000, 1_024), 207, too_few(207)),
            ((10_000, 1_024), 3, too_few(3)),
            ((u32::MAX, u32::MAX), u32::MAX, Ok(((u32::MAX - 128) / 5, (u32::MAX - 128) / 5))),
        ] {
            let (connections, in_flight) = asked;
            let found = affordable(&bounds(connections, in_flight), files, reserve)
                .map(|affordable| (affordable.connections.get(), affordable.in_flight.get()));
            assert_eq!(found, expected, "{asked:?} with {files}");
        }
        assert_eq!(needed(&bounds(10_000, 1_024), reserve), 14_224);
    }

    #[test]
    fn what_is_affordable_never_needs_more_files_than_there_are() {
        for (connections, in_flight) in [(10_000, 1_024), (1_000, 1_024), (100, 1_024), (16, 1), (1, 50)] {
            let reserve = reserve(NonZeroUsize::new(8).unwrap());
            for files in 236..15_000 {
                let Affordable { connections, in_flight } =
                    affordable(&bounds(connections, in_flight), files, reserve).unwrap();
                let needed = needed(&bounds(connections.get(), in_flight.get()), reserve);
                assert!(needed <= files, "{connections} and {in_flight} need {needed} of {files}");
            }
        }
    }

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let files = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(limit.current.unwrap_or(u64::MAX).min(u64::from(u32::MAX)), u64::from(files));
    }
}
