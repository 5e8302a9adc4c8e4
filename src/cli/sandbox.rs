//! `tollgate sandbox`: the gateway between stand-ins, and calls to paste.

use std::net::SocketAddr;
use std::time::Duration;

use super::Failure;
use crate::sandbox::world::{PLAYBOOKS_SECRET, TENANT, Who};
use crate::sandbox::{Sandbox as Running, SandboxSettings};
use crate::time::Clock;

/// Runs the gateway between stand-ins.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything runs in this process and nothing leaves this machine. Stops on SIGTERM or SIGINT.
Exit codes: 0 stopped when told to, 2 could not start")]
pub(super) struct Sandbox {
    /// Address that callers connect to, on this machine
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = loopback)]
    listen: SocketAddr,

    /// Address of /metrics, /livez, /readyz and /policy, on this machine
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = loopback)]
    admin: SocketAddr,

    /// How many seconds a collection runs on a device
    #[arg(long, env = "TOLLGATE_RUNNING_FOR", value_name = "SECONDS", default_value_t = 30)]
    running_for: u32,

    /// What is logged to standard error: error, warn, info, debug, or a filter such as info,tollgate=debug
    #[arg(long, env = "TOLLGATE_LOG", value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// An address that only this machine reaches: the sandbox prints its tokens for whoever can read them.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not an address and a port".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the sandbox is for this machine alone".to_owned())
    }
}

impl Sandbox {
    pub(super) fn run(self) -> Result<(), Failure> {
        super::log_to_stderr(&self.log)?;
        let settings = SandboxSettings {
            listen: self.listen,
            admin: self.admin,
            running_for: Duration::from_secs(self.running_for.into()),
        };
        let sandbox = Running::start(&settings, Clock::System).map_err(Failure::unable)?;
        let signals = sandbox.server.signals().map_err(Failure::unable)?;
        describe(&sandbox);
        sandbox.run(signals);
        Ok(())
    }
}

fn describe(sandbox: &Running) {
    let snapshot = sandbox.server.policies.load();
    let (address, admin) = (sandbox.server.address, sandbox.server.admin);
    println!("gateway   http://{address} (policy {}: {})", snapshot.version, snapshot.counts());
    println!("admin     http://{admin}/metrics /livez /readyz /policy /limits");
    println!("audit     {}", sandbox.audit().display());
    println!(
        "API       http://{} (a stand-in; calls that go there directly pass no check of ours)",
        sandbox.api
    );
    println!("issuer    {} and http://{} (a stand-in)", sandbox.issuer_url, sandbox.issuer);
    println!("issuer CA {}", sandbox.ca().display());
    println!(
        "OAuth     authority {}/{TENANT}, client {}, secret {PLAYBOOKS_SECRET}",
        sandbox.issuer_url,
        sandbox.client()
    );
    println!("\nCallers, each with a token for 8 hours:");
    for who in Who::ALL {
        println!("\n# {}: {}\n{}", who.name(), who.about(), sandbox.tokens.of(who));
    }
    println!(
        "\nPaste any line, in any order, as often as you like. Each prints the answer and, last, its status."
    );
    for call in sandbox.calls() {
        println!("\n# {}\n# expect {}\n{}", call.title, call.expect, call.line);
    }
    println!("\n# What the gateway counted, and the trail that it kept");
    println!("curl -sS --noproxy '*' http://{admin}/metrics | grep '^tollgate_requests_total'");
    println!("tail -n 3 {}", sandbox.audit().display());
}
