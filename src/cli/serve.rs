//! `tollgate serve`: the gateway in front of the API.

use super::Failure;
use crate::reload::PolicySource;
use crate::server::Server;
use crate::settings::{ServeFlags, Settings};
use crate::time::Clock;

/// Runs the gateway.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stops on SIGTERM or SIGINT, after the requests in flight; a second one waits for nothing.
SIGHUP reads the policy again and reopens the audit file.
SIGQUIT hands listeners and windows to a process that waits for them (--handover, --upgrade).
Exit codes: 0 stopped when told to, 2 could not start")]
pub(super) struct Serve {
    #[command(flatten)]
    flags: ServeFlags,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        super::log_to_stderr(self.flags.log())?;
        let source = PolicySource::Folder(self.flags.policies().clone());
        let folder = self.flags.policies().display().to_string();
        let settings = Settings::try_from(self.flags).map_err(Failure::unable)?;
        let upstream = settings.upstream.clone();
        let state = settings.state.as_ref().map(|folder| folder.display().to_string());
        let public = settings.public_url.clone();
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let server = Server::start(settings, source, Clock::System).map_err(Failure::unable)?;
        let signals = server.signals().map_err(Failure::unable)?;
        let snapshot = server.policies.load();
        eprintln!("policy   {} from {folder}: {}", snapshot.version, snapshot.counts());
        eprintln!("upstream {upstream}");
        match state {
            Some(folder) => eprintln!(
                "state    {folder}: {} actions, {} keys of limits",
                server.line.actions.len(),
                server.line.limiter.keys()
            ),
            None => eprintln!(
                "state    in memory: limits begin anew after the end, and which device an action belongs to is forgotten (--state DIR)"
            ),
        }
        match public {
            Some(url) => eprintln!("links    to {url}"),
            None => eprintln!(
                "links    as the API writes them: a client that follows one goes past the gateway (--public-url URL)"
            ),
        }
        eprintln!("gateway  {scheme}://{}", server.address);
        eprintln!("admin    http://{} (/metrics /livez /readyz /policy /limits)", server.admin);
        server.run(signals);
        Ok(())
    }
}
