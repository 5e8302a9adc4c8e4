//! Why a gateway does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::journal::JournalError;
use crate::server::TooFewFiles;
use crate::source::Problem;
use crate::telemetry::audit::AuditError;

/// Why a gateway did not start. Each is one line, except a bad policy set, whose every mistake has one.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy set has mistakes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Policy(Vec<Problem>),
    /// An address can't be listened on.
    #[error("cannot listen on `{address}`: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The upstream's name has no address.
    #[error("cannot look up the upstream `{host}`: {error}")]
    Upstream {
        /// The name.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("cannot do TLS with `{path}`: {error}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The listeners can't pass from one process to another.
    #[error("cannot hand over in `{folder}`: {error}")]
    Handover {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The running process has a state folder, which this one was not given.
    #[error("the running process keeps its state in a folder: give the same with `--state`")]
    StateWanted,
    /// It has none.
    #[error("the running process keeps no state: leave `--state` out, or stop that process first")]
    StateUnwanted,
    /// The system gives too few files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// An issuer's keys, which the running process may have, can't be had.
    #[error("cannot take over without the keys of issuer `{issuer}` ({source_name}): {error}")]
    Keys {
        /// The issuer's name.
        issuer: Arc<str>,
        /// Where they come from.
        source_name: Arc<str>,
        /// What went wrong.
        error: Arc<str>,
    },
    /// The audit can't be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What must survive the process can't be read back.
    #[error(transparent)]
    State(#[from] JournalError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}
