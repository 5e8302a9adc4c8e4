//! `tollgate explain`: how the gateway decides one call, step by step.

mod steps;

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use self::steps::Steps;
use super::Failure;
use super::print::say;
use super::rehearsal::{Call, Played, Rehearsal, Stage};
use super::replay::Recorded;
use crate::reload::PolicySource;
use crate::snapshot::Snapshot;
use crate::time::{Clock, Wall};

/// What `--help` says at its end.
const NOTES: &str = "\
With --token the signature is verified, with keys that are fetched for it; with --claims the claims are taken to be
signed by their issuer, and those of iss, aud, tid, ver, nbf and exp that the file leaves out are filled in. Windows
are empty, but for the call itself.
Exit codes:
  0  the call would be admitted
  1  it would be refused, or the set has mistakes
  2  a file cannot be read";

/// Says how the gateway would decide a call: each step, what it looked at, what it found, and which line of the policy
/// said so.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Explain {
    /// Folder with the policy set
    #[arg(long, value_name = "DIR")]
    policies: PathBuf,
    /// File with the caller's token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["claims", "audit"])]
    token: Option<PathBuf>,
    /// File with the claims of a token, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "audit")]
    claims: Option<PathBuf>,
    /// Line of the audit whose call is explained, or `-` to read it
    #[arg(long, value_name = "LINE", conflicts_with_all = ["body", "method", "path"])]
    audit: Option<String>,
    /// File with the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Type of the body
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: HeaderValue,
    /// Method of the call
    #[arg(value_name = "METHOD", required_unless_present = "audit")]
    method: Option<Method>,
    /// Path of the call, with its query
    #[arg(value_name = "PATH", required_unless_present = "audit")]
    path: Option<String>,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        super::readable(&self.policies)?;
        let files = PolicySource::Folder(self.policies.clone()).files();
        let compiled = files.and_then(|files| Snapshot::compile(&files, None, Clock::System.wall()));
        let snapshot = compiled.map_err(|problems| super::mistakes(&problems))?;
        match &self.audit {
            Some(line) => explain_line(snapshot, line),
            None => self.explain_call(snapshot),
        }
    }

    fn explain_call(self, snapshot: Snapshot) -> Result<(), Failure> {
        let (Some(method), Some(target)) = (self.method, self.path) else {
            return Err(Failure::unable("a call has a method and a path"));
        };
        let mut headers = HeaderMap::new();
        let body = self.body.as_deref().map(read_bytes).transpose()?;
        if body.is_some() {
            headers.insert(CONTENT_TYPE, self.content_type);
        }
        let call = Call { method, target, headers, body: body.unwrap_or_default(), address: None };
        let now = Clock::System.wall();
        match (&self.token, &self.claims) {
            (Some(token), _) => {
                let token = read_text(token)?;
                explain(&Rehearsal::with_keys_of_issuers(snapshot)?, &call, Some(token.trim()), now)
            }
            (None, Some(claims)) => {
                let rehearsal = Rehearsal::new(snapshot)?;
                let claims = claims_of(&read_text(claims)?, &rehearsal, now)?;
                let token = rehearsal.sign(&claims);
                explain(&rehearsal, &call, Some(&token), now)
            }
            (None, None) => explain(&Rehearsal::new(snapshot)?, &call, None, now),
        }
    }
}

fn explain(rehearsal: &Rehearsal, call: &Call, token: Option<&str>, now: Wall) -> Result<(), Failure> {
    say(format_args!("policy {}, {now}\n", rehearsal.snapshot().version));
    let stage = rehearsal.stage(now);
    conclude(call, &stage.play(call, token), &stage, rehearsal)
}

fn conclude(call: &Call, played: &Played, stage: &Stage<'_>, rehearsal: &Rehearsal) -> Result<(), Failure> {
    say(Steps::of(call, played, stage, rehearsal.snapshot()));
    match &played.verdict {
        Ok(()) => {
            if let Some(reason) = played.findings.would_refuse() {
                let why = played.findings.tried.as_ref().map(|tried| format!(": {}", tried.message));
                say(format_args!("not enforced, `{reason}`{}", why.unwrap_or_default()));
            }
            say("admitted");
            Ok(())
        }
        Err(denial) => Err(Failure::Negative(format!("refused: {}", denial.reason()))),
    }
}

/// Explains the call of an audit line, at its time, by the policy as it is now.
fn explain_line(snapshot: Snapshot, line: &str) -> Result<(), Failure> {
    let line = match line {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(Failure::unable)?;
            text
        }
        line => line.to_owned(),
    };
    let recorded: Recorded = serde_json::from_str(&line)
        .map_err(|error| Failure::unable(format_args!("not a line of the audit: {error}")))?;
    let rehearsal = Rehearsal::new(snapshot)?;
    let unplayable =
        |why| Failure::unable(format_args!("the call cannot be decided again: the line is {why}"));
    let operation = recorded.operation(&rehearsal).map_err(unplayable)?;
    let stage = rehearsal.stage(recorded.time().unwrap_or_default());
    say(format_args!("policy {}, {}", rehearsal.snapshot().version, stage.now()));
    let version = recorded.policy_version.as_deref().unwrap_or("unknown");
    say(format_args!("recorded under the policy {version}: {}\n", recorded.verdict()));
    let (call, played) = recorded.play(operation, &[], &stage, &rehearsal);
    conclude(&call, &played, &stage, &rehearsal)
}

/// The claims of a file, with those that only say that the token is for us and valid now filled in.
fn claims_of(text: &str, rehearsal: &Rehearsal, now: Wall) -> Result<Value, Failure> {
    let given: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Failure::unable(format_args!("the claims are no JSON object: {error}")))?;
    let mut claims = Map::new();
    if let Some(issuer) = rehearsal.issuers().first() {
        let now = now.unix_seconds();
        claims = Map::from_iter([
            ("iss".to_owned(), json!(issuer.iss)),
            ("aud".to_owned(), json!(issuer.audience)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now + 3_600)),
        ]);
        if let Some(tid) = issuer.claim("tid") {
            claims.insert(tid.to_owned(), json!(issuer.tenant.to_string()));
        }
        // A token that names its issuer says itself of which version it is.
        if let (Some(version), false) = (issuer.version, given.contains_key("iss")) {
            claims.insert("ver".to_owned(), json!(version));
        }
    }
    claims.extend(given);
    Ok(Value::Object(claims))
}

fn read_bytes(path: &Path) -> Result<Bytes, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Failure::unable(format_args!("cannot read `{}`: {error}", path.display()))),
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes.into())
        .map_err(|_| Failure::unable(format_args!("`{}` is not UTF-8 text", path.display())))
}
