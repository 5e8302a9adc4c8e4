//! What stands around a request that is to be refused.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tollgate::time::{Clock, Wall};

use crate::support::gateway::{COMMENT, Setup, TestGateway, WORKSTATION, policy_with, portal};
use crate::support::upstream::{Answer, Ending, RecordingUpstream, nobody};
use crate::support::{until, within_deadline};

/// What stands around the request.
pub(super) enum Scene {
    /// The policy set of the tests, and an upstream that answers 201.
    Usual,
    /// One file of the set says something else.
    Policy(&'static str, String),
    /// The inventory may be an hour old and is from 1970.
    InventoryStale,
    /// A token from the same address was refused, and one in a minute is as many as may be.
    FailedLogin,
    /// The keys come by discovery, from where nobody listens.
    IssuerOutOfReach,
    /// The upstream has closed so many connections that it is left alone.
    UpstreamFailing,
    /// The audit cannot be written, and its queue is full.
    AuditFull,
    /// Nobody listens at the upstream's address.
    UpstreamDown,
    /// The upstream closes the connection in the place of an answer.
    UpstreamHangsUp,
    /// The upstream says nothing.
    UpstreamSilent,
    /// The upstream compresses what was asked for as it is.
    UpstreamEncodes,
}

// === impl Scene ===

impl Scene {
    pub(super) async fn start(&self) -> (RecordingUpstream, TestGateway) {
        let answer = match self {
            Self::UpstreamHangsUp => Answer::new(201, "").ending(Ending::CloseBefore),
            Self::UpstreamSilent => Answer::new(201, "").ending(Ending::Never),
            Self::UpstreamEncodes => Answer::json(200, &json!({})).header("Content-Encoding", "gzip"),
            _ => Answer::json(201, &json!({ "id": "1" })),
        };
        let upstream = RecordingUpstream::start(answer, Clock::System);
        let setup = Setup::new(upstream.address());
        let setup = match self {
            Self::Usual | Self::UpstreamHangsUp | Self::UpstreamFailing => setup,
            Self::Policy(file, text) => setup.policy(policy_with(file, text)),
            Self::InventoryStale => {
                let groups = include_str!("../support/policy/device-groups.toml");
                let mut files = policy_with("device-groups.toml", &format!("max_age = \"1h\"\n{groups}"));
                let devices = files.get("devices.csv").unwrap().clone();
                files.insert(devices.with_modified(Some(Wall::from_unix_seconds(0))));
                setup.policy(files)
            }
            Self::FailedLogin => setup.policy(policy_with("limits.toml", ONE_FAILED_LOGIN)),
            Self::IssuerOutOfReach => setup.policy(policy_with("issuers.toml", DISCOVERED)),
            Self::AuditFull => setup.audit(Path::new("/dev/full")),
            Self::UpstreamDown => Setup::new(nobody()),
            Self::UpstreamEncodes => setup.public_url("https://tollgate.example"),
            Self::UpstreamSilent => setup.upstream_timeout(Duration::from_millis(50)),
        };
        let gateway = setup.start();
        match self {
            Self::IssuerOutOfReach => {
                until("the fetch of the keys", || {
                    gateway
                        .server()
                        .policies
                        .load()
                        .verifier
                        .issuers(&gateway.clock)
                        .all(|issuer| issuer.error.is_some())
                })
                .await
            }
            Self::FailedLogin => {
                gateway.connect().await.collect("none", WORKSTATION, COMMENT).await.assert_status(401);
            }
            Self::AuditFull => fill_audit(&gateway).await,
            Self::UpstreamFailing => {
                for _ in 0..10 {
                    upstream.answer_next(Answer::new(201, "").ending(Ending::CloseBefore));
                    gateway.get(&portal(), "/api/machines").await.assert_status(502);
                }
            }
            _ => {}
        }
        (upstream, gateway)
    }

    pub(super) fn forwards(&self) -> bool {
        matches!(self, Self::UpstreamHangsUp | Self::UpstreamSilent | Self::UpstreamEncodes)
    }
}

/// Makes admitted calls until the queue of their lines is full: nothing that is written to `/dev/full` ever leaves it.
async fn fill_audit(gateway: &TestGateway) {
    let mut client = gateway.connect().await;
    let request = super::long_line();
    within_deadline("a full audit", async {
        loop {
            client.send(&request).await;
            let answer = client.read_response().await;
            if answer.header("Tollgate-Reason") == Some("audit_unavailable") {
                return;
            }
            answer.assert_status(201);
        }
    })
    .await;
}

const ONE_FAILED_LOGIN: &str = r#"
    [[limit]]
    name    = "failed-logins"
    per     = ["address"]
    windows = ["1 per minute"]
"#;

const DISCOVERED: &str = r#"
    [[issuer]]
    name      = "v1"
    issuer    = "https://issuer.example/{tid}/"
    tenants   = ["00000000-0000-0000-0000-00000000007e"]
    audiences = ["https://api.securitycenter.microsoft.com"]
    discovery = "http://127.0.0.1:1/"
"#;
