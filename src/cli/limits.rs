//! `tollgate limits`: the fullest limits of a running gateway, as a table.

use std::net::SocketAddr;
use std::time::Duration;

use super::Failure;
use super::print::say;
use crate::admin::{self, Closed, Key, Window};

/// Prints the fullest limits of a running gateway: whom each counts for, how many calls of how many each window counts,
/// and when the next place is free.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 printed, 2 the gateway cannot be asked")]
pub(super) struct Limits {
    /// Where the gateway shows its pages for operators
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,

    /// How many keys are printed, 1 to 1000
    #[arg(long, value_name = "NUMBER", default_value = "20")]
    top: u16,
}

/// How long the gateway may take: it looks at every key, a million in less than a second.
const PATIENCE: Duration = Duration::from_secs(30);

impl Limits {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let limits = runtime.map_err(Failure::unable)?.block_on(self.fetch())?;
        let admin::Limits { policy_version, keys, max_keys, fullest, held, closed } = limits;
        say(format_args!("policy {policy_version}, {keys} keys of at most {max_keys}, {held} calls held"));
        for Closed { operation, tenant, application, opens_in_ms, waiting } in closed {
            let (seconds, millis) = (opens_in_ms / 1_000, opens_in_ms % 1_000);
            say(format_args!(
                "closed by the API for {seconds}.{millis:03} s: {operation}, tenant {tenant}, application {application}, {waiting} calls wait"
            ));
        }
        let rows: Vec<_> = fullest.iter().map(row).collect();
        let Some(widths) =
            rows.iter().map(|row| row.each_ref().map(|cell| cell.chars().count())).reduce(|one, other| {
                let mut widest = one;
                widest.iter_mut().zip(other).for_each(|(width, other)| *width = other.max(*width));
                widest
            })
        else {
            return Ok(());
        };
        let [limit, windows, frees, _] = widths;
        for [name, used, free, whose] in rows {
            say(format_args!("{name:limit$}  {used:windows$}  {free:>frees$}  {whose}"));
        }
        Ok(())
    }

    async fn fetch(&self) -> Result<admin::Limits, Failure> {
        let url = format!("http://{}/limits?top={}", self.admin, self.top);
        let failed = |what: String| Failure::unable(format_args!("cannot ask `{url}`: {what}"));
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.map_err(|error| failed(error.to_string()))?;
        let answer = client.get(&url).send().await.map_err(|error| failed(cause(&error)))?;
        let (status, body) = (answer.status(), answer.bytes().await.map_err(|error| failed(cause(&error)))?);
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body);
            return Err(failed(format!("{status}: {}", said.trim().chars().take(200).collect::<String>())));
        }
        serde_json::from_slice(&body).map_err(|error| failed(format!("not the page of a gateway: {error}")))
    }
}

/// The innermost error: those around it say only that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The cells of a line: the limit, its windows, when the first full one has a place, and whom it counts for.
fn row(key: &Key) -> [String; 4] {
    let window = |window: &Window| format!("{}/{} {}", window.used, window.of, window.window);
    let windows: Vec<_> = key.windows.iter().map(window).collect();
    let full = key.windows.iter().filter(|window| window.used >= window.of);
    let frees = match full.map(|window| window.frees_in_ms).max() {
        Some(millis) => format!("full for {}.{:03} s", millis / 1_000, millis % 1_000),
        None => String::new(),
    };
    let ids = [
        ("part of", &key.part),
        ("tenant", &key.tenant),
        ("application", &key.application),
        ("user", &key.user),
        ("operation", &key.operation),
        ("device", &key.device),
        ("device group", &key.device_group),
    ];
    let ids = ids.into_iter().filter_map(|(what, id)| Some(format!("{what} {}", id.as_ref()?)));
    let whose: Vec<_> = ids.collect();
    let whose = if whose.is_empty() { "everybody".to_owned() } else { whose.join(", ") };
    [key.limit.clone(), windows.join(", "), frees, whose]
}
