//! The commands, by the binary itself: what they print, when they end, with which exit code.

mod alike;
mod check;
mod diff;
mod explain;
mod files;
mod flags;
mod inventory;
mod limits;
mod schema;
mod serve;
mod start;
mod state;
mod streams;
mod survive;
mod test;
mod tls;
mod upgrade;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::time::Clock;

use crate::support::gateway::{policy, write_policy};
use crate::support::own_address;
use crate::support::process::{Ended, Process, address_of, text};

/// What is wrong with the arguments or the files must be said within this. A busy machine takes a tenth of it, an idle
/// one a thousandth.
const AT_ONCE: Duration = Duration::from_secs(60);

/// A policy folder with the set of [`policy`].
fn policy_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_policy(&policy(), folder.path());
    folder
}

/// `tollgate serve` on ports that the system chose.
struct Serving {
    process: Process,
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Serving {
    /// Starts one in front of this upstream, with further arguments, and waits until it says where it listens.
    async fn start(policies: &Path, upstream: SocketAddr, more: &[&str]) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), policies, upstream, more).await
    }

    /// The same at this address.
    async fn start_at(at: SocketAddr, policies: &Path, upstream: SocketAddr, more: &[&str]) -> Self {
        let (at, upstream) = (at.to_string(), format!("http://{upstream}"));
        let args = ["serve", "--policies", text(policies), "--upstream", &upstream];
        let ports = ["--listen", &at, "--admin", &at];
        Self::of(Process::start(args.iter().chain(&ports).chain(more))).await
    }

    /// Waits until a process says where it listens.
    async fn of(process: Process) -> Self {
        let gateway = address_of(&process.says("gateway ").await);
        let admin = address_of(&process.says("admin ").await);
        Self { process, gateway, admin }
    }
}

/// Runs a command that must end at once.
async fn run(args: &[&str]) -> Ended {
    run_in(args, &[]).await
}

async fn run_in(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let process = Process::start_in(args, environment.iter().copied());
    let ended = Clock::System.timeout(AT_ONCE, process.ended()).await;
    ended.unwrap_or_else(|_| panic!("{args:?} has not ended within {} s", AT_ONCE.as_secs()))
}
