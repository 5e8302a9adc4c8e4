//! What keeps `serve` from starting, and how it says so.

use std::net::TcpListener;

use tollgate::proxy::TrustedHops;
use tollgate::reload::PolicySource;
use tollgate::server::Server;
use tollgate::settings::{DoorSettings, Settings, UpstreamSettings, UpstreamUrl, one_a_core};
use tollgate::telemetry::audit::{AuditFullMode, AuditTarget};
use tollgate::time::Clock;

use super::{own_address, policy_folder, run};
use crate::support::gateway::policy;
use crate::support::process::{Ended, text};
use crate::support::tls::LocalCertificate;
use crate::support::until;

/// A part of a name has at most 63 characters: this one has no address anywhere, and no server is asked for it.
const NO_NAME: &str = "https://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example";

/// Runs `serve` with these arguments, and what is needed beside them; afterwards nobody listens where it would have.
async fn serve_with(port: u16, policies: &str, args: &[&str]) -> Ended {
    let (listen, admin) = (own_address(port), own_address(port + 1));
    let needed = [
        ("--policies", policies),
        ("--upstream", "http://127.0.0.1:1"),
        ("--listen", &listen.to_string()),
        ("--admin", &admin.to_string()),
    ];
    let needed = needed.iter().filter(|(flag, _)| !args.contains(flag));
    let needed: Vec<_> = needed.flat_map(|(flag, value)| [*flag, *value]).collect();
    let ended = run(&[&["serve"], needed.as_slice(), args].concat()).await;
    TcpListener::bind(listen).unwrap();
    TcpListener::bind(admin).unwrap();
    ended
}

#[track_caller]
fn assert_one_line(what: &str, ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(2), "{what}: {ended:#?}");
    let ([], [line]) = (ended.out.as_slice(), ended.err.as_slice()) else { panic!("{what}: {ended:#?}") };
    assert!(line.starts_with("error: "), "{what}: {line}");
    assert!(parts.iter().all(|part| line.contains(part)), "{what}: expected {parts:?}, got {line}");
}

#[tokio::test]
async fn a_bad_argument_is_said_in_one_line_at_once_with_exit_code_2() {
    let folder = policy_folder();
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("an address without a port", &["--listen", "127.0.0.1"], &["--listen", "'127.0.0.1'"]),
        (
            "a URL without a scheme",
            &["--upstream", "api.example"],
            &["--upstream", "`api.example` is not a URL"],
        ),
        (
            "a URL with a path",
            &["--upstream", "https://api.example/v1"],
            &["`https://api.example/v1` is not"],
        ),
        (
            "an upstream without an address",
            &["--upstream", NO_NAME],
            &["cannot look up the upstream", NO_NAME.trim_start_matches("https://")],
        ),
        ("plain http to another machine", &["--upstream", "http://192.0.2.1"], &["--insecure-upstream"]),
        ("callers without TLS", &["--listen", "0.0.0.0:0"], &["--listen 0.0.0.0:0", "--insecure-listen"]),
        ("an admin for everyone", &["--admin", "0.0.0.0:0"], &["--admin 0.0.0.0:0", "--insecure-admin"]),
        ("no thread", &["--threads", "0"], &["--threads", "zero"]),
        ("a word that is none", &["--audit-full", "perhaps"], &["--audit-full", "'perhaps'", "refuse, drop"]),
        ("a time that is none", &["--upstream-timeout", "soon"], &["--upstream-timeout", "`soon`"]),
        ("a filter that is none", &["--log", "tollgate=loud"], &["--log tollgate=loud"]),
    ];
    for (what, args, parts) in rows {
        assert_one_line(what, &serve_with(2_000, text(folder.path()), args).await, parts);
    }
}

#[tokio::test]
async fn the_sandbox_listens_for_this_machine_alone() {
    for flag in ["--listen", "--admin"] {
        let ended = run(&["sandbox", flag, "0.0.0.0:0"]).await;
        assert_one_line(flag, &ended, &[flag, "'0.0.0.0:0'", "the sandbox is for this machine alone"]);
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_said_in_one_line_at_once_with_exit_code_2() {
    let folder = policy_folder();
    let held = TcpListener::bind(own_address(2_100)).unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(held).unwrap();
    let (held, free) = (held.to_string(), own_address(2_101).to_string());
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("a port in use", &["--listen", &held], &["cannot listen on", &held, "in use"]),
        ("the admin's port in use", &["--admin", &held], &["cannot listen on", &held, "in use"]),
        ("one port for both", &["--listen", &free, "--admin", &free], &["cannot listen on", &free, "in use"]),
        ("another machine's address", &["--listen", "192.0.2.1:80", "--insecure-listen"], &["192.0.2.1:80"]),
    ];
    for (what, args, parts) in rows {
        assert_one_line(what, &serve_with(2_102, text(folder.path()), args).await, parts);
    }
    drop(holder);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_said_in_one_line_at_once_with_exit_code_2() {
    let (folder, files, others) = (policy_folder(), LocalCertificate::make(), LocalCertificate::make());
    let broken = folder.path().join("broken.crt");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n").unwrap();
    let (cert, key, other) = (files.cert(), files.key(), others.key());
    let [folder, cert, key, other, broken] = [folder.path(), &cert, &key, &other, &broken].map(text);
    let missing = "No such file";
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("no policy folder", &["--policies", "/no/policies"], &["/no/policies", missing]),
        ("a file for a folder", &["--policies", cert], &[cert, "Not a directory"]),
        ("no certificate", &["--tls-cert", "/no/cert", "--tls-key", key], &["TLS with `/no/cert`", missing]),
        ("no key", &["--tls-cert", cert, "--tls-key", "/no/key"], &["TLS with `/no/key`", missing]),
        ("a broken certificate", &["--tls-cert", broken, "--tls-key", key], &["TLS with", broken]),
        ("a key for a certificate", &["--tls-cert", key, "--tls-key", key], &["TLS with", key]),
        ("a certificate for a key", &["--tls-cert", cert, "--tls-key", cert], &["TLS with", cert]),
        ("another's key", &["--tls-cert", cert, "--tls-key", other], &["TLS with", cert]),
        (
            "more certificates",
            &["--tls-cert", &format!("{cert},{cert}"), "--tls-key", key],
            &["2 of `--tls-cert` and 1"],
        ),
        (
            "no client authority",
            &["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key],
            &["TLS with", key],
        ),
        ("no upstream authority", &["--upstream-ca", key], &["TLS with", key]),
        ("no folder for the audit", &["--audit", "/no/audit"], &["`/no/audit` cannot be opened", missing]),
        ("a folder for the audit", &["--audit", folder], &[folder, "cannot be opened", "Is a directory"]),
    ];
    for (what, args, parts) in rows {
        assert_one_line(what, &serve_with(2_200, folder, args).await, parts);
    }
}

#[tokio::test]
async fn each_mistake_of_a_policy_set_is_said_in_a_line_of_its_own_with_exit_code_2() {
    let folder = policy_folder();
    std::fs::remove_file(folder.path().join("roles.toml")).unwrap();
    std::fs::remove_file(folder.path().join("limits.toml")).unwrap();
    std::fs::write(folder.path().join("applications.toml"), "unlisted = \"maybe\"\n").unwrap();

    let ended = serve_with(2_300, text(folder.path()), &[]).await;

    assert_eq!((ended.code, ended.out.len()), (Some(2), 0), "{ended:#?}");
    let files: Vec<_> = ended.err.iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>()).collect();
    let expected = [["error", "applications.toml:1:12"], ["error", "limits.toml"], ["error", "roles.toml"]];
    assert_eq!(files, expected, "{ended:#?}");
}

#[tokio::test]
async fn a_gateway_that_did_not_start_in_a_process_that_goes_on_leaves_nobody_listening() {
    let (listen, admin) = (own_address(2_400), own_address(2_401));
    let settings = Settings {
        upstream: UpstreamSettings::at(UpstreamUrl::http(own_address(1))),
        listen,
        admin,
        handover: None,
        trusted_hops: TrustedHops::default(),
        tls: None,
        audit: Some(AuditTarget::File("/no/audit".into())),
        state: None,
        public_url: None,
        audit_full: AuditFullMode::Refuse,
        threads: one_a_core(),
        door: DoorSettings::default(),
    };

    let error = Server::start(settings, PolicySource::Memory(policy()), Clock::System).unwrap_err();

    assert!(error.to_string().contains("/no/audit"), "{error}");
    // A process that another test is just starting may have this one's listeners until it begins.
    let is_free = || TcpListener::bind(listen).is_ok() && TcpListener::bind(admin).is_ok();
    until("nobody listening", is_free).await;
}
