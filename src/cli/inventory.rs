//! `tollgate inventory`: the device inventory, brought from the API.

mod api;
mod file;

use std::path::PathBuf;
use std::str::FromStr;

use self::api::Api;
use self::file::NewFile;
use super::Failure;
use crate::id::TenantId;
use crate::settings::{Scheme, UpstreamUrl};
use crate::source::known_are;
use crate::time::Clock;
use crate::token::{TokenSource, clouds, token_source};

/// Brings the device inventory.
#[derive(Debug, clap::Args)]
pub(super) struct Inventory {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch every device from the API into a file of the policy set
    Pull(Pull),
}

/// What `--help` says at its end.
const ENVIRONMENT: &str = "\
The application's id and secret come from the environment, where no other user sees them:
  TOLLGATE_CLIENT_ID, TOLLGATE_CLIENT_SECRET
It needs the permission Machine.Read.All, and Tollgate's own address where an access policy asks for one.
Exit codes:
  0  the file holds every device that the API has
  1  the API refused, or has no device; the file is as it was
  2  it could not run";

/// Fetches every device from the API (`GET /api/machines`, all pages) into a file of the policy set.
#[derive(Debug, clap::Args)]
#[command(after_help = ENVIRONMENT)]
struct Pull {
    /// The file, such as `policies/devices.json`: replaced in one step once everything is here, with mode 0600
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    out: PathBuf,

    /// The Entra tenant, a GUID
    #[arg(long, env = "TOLLGATE_TENANT", value_name = "GUID")]
    tenant: TenantId,

    /// The tenant's cloud: commercial, gcc, gcc-high or dod
    #[arg(long, env = "TOLLGATE_CLOUD", value_name = "CLOUD", default_value = "commercial")]
    cloud: Cloud,

    /// The API's address [default: the cloud's]
    #[arg(long, env = "TOLLGATE_API", value_name = "URL", value_parser = private_url)]
    api: Option<UpstreamUrl>,

    /// Where tokens are issued, in the place of the cloud's login host
    #[arg(long, env = "TOLLGATE_LOGIN", value_name = "URL", value_parser = private_url)]
    login: Option<UpstreamUrl>,
}

/// A cloud that Microsoft has.
#[derive(Debug, Clone)]
struct Cloud(String);

/// Who asks: an application and its secret.
struct Credentials {
    client: String,
    secret: String,
}

impl FromStr for Cloud {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if clouds().any(|known| known == word) {
            return Ok(Self(word.to_owned()));
        }
        Err(known_are(word, clouds()).unwrap_or_else(|| "no such cloud".to_owned()))
    }
}

/// A policy set reads an inventory in JSON from files of this ending.
fn json_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let named = path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    if named && path.extension().is_some_and(|ending| ending == "json") {
        return Ok(path);
    }
    Err("a policy set reads devices from files that end in `.json`".to_owned())
}

/// A URL that a secret may be sent to.
fn private_url(text: &str) -> Result<UpstreamUrl, String> {
    let url: UpstreamUrl =
        text.parse().map_err(|error: crate::settings::InvalidUpstream| error.to_string())?;
    if url.scheme() == Scheme::Http && !url.is_loopback() {
        return Err("plain http, which would send the secret in clear text".to_owned());
    }
    Ok(url)
}

// === impl Inventory ===

impl Inventory {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::Pull(pull) = self.command;
        pull.run(&Clock::System)
    }
}

// === impl Pull ===

impl Pull {
    fn run(self, clock: &Clock) -> Result<(), Failure> {
        let credentials = Credentials::from_environment()?;
        let Some(TokenSource { endpoint, resource }) = token_source(&self.cloud.0, self.tenant) else {
            return Err(Failure::unable("no such cloud"));
        };
        let endpoint = match &self.login {
            Some(login) => format!("{login}/{}/oauth2/v2.0/token", self.tenant),
            None => endpoint,
        };
        let base = self.api.as_ref().map_or_else(|| resource.to_owned(), ToString::to_string);
        let api = Api::new(base, endpoint, resource, credentials, clock).map_err(Failure::unable)?;
        let mut file = NewFile::create(&self.out).map_err(|error| self.unwritable(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::unable)?;
        let (mut pages, mut devices) = (0_u64, 0_u64);
        runtime.block_on(async {
            let mut at = api.first_page();
            loop {
                let page =
                    api.page(&at).await.map_err(|error| Failure::Negative(format!("error: {error}")))?;
                file.write(&page.bytes).map_err(|error| self.unwritable(&error))?;
                pages += 1;
                devices += page.devices;
                eprintln!("page {pages}: {} devices, {devices} in all", page.devices);
                match page.next {
                    Some(next) if pages < Api::MAX_PAGES => at = next,
                    Some(_) => return Err(Failure::Negative("error: the pages do not end".to_owned())),
                    None => return Ok(()),
                }
            }
        })?;
        if devices == 0 {
            // A set whose inventory is suddenly empty would refuse everybody whom groups confine.
            return Err(Failure::Negative("error: the API has no device: the file is as it was".to_owned()));
        }
        file.keep().map_err(|error| self.unwritable(&error))?;
        eprintln!("wrote {}: {devices} devices in {pages} pages", self.out.display());
        Ok(())
    }

    fn unwritable(&self, error: &std::io::Error) -> Failure {
        Failure::unable(format_args!("cannot write `{}`: {error}", self.out.display()))
    }
}

// === impl Credentials ===

impl Credentials {
    fn from_environment() -> Result<Self, Failure> {
        let value = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| Failure::unable(format_args!("the environment lacks `{name}`")))
        };
        Ok(Self { client: value("TOLLGATE_CLIENT_ID")?, secret: value("TOLLGATE_CLIENT_SECRET")? })
    }
}
