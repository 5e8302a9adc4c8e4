//! Flags, the environment variables that stand for them, and `--help`.

use tollgate::snapshot::version;

use super::{Serving, policy_folder, run, run_in};
use crate::support::gateway::policy;
use crate::support::process::{Process, Signal, text};
use crate::support::tls::LocalCertificate;

/// The flags that `--help` of a command describes, each with its description.
async fn described(command: &str) -> Vec<(String, String)> {
    let ended = run(&[command, "--help"]).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{ended:#?}");
    let mut flags: Vec<(String, String)> = Vec::new();
    for line in ended.out.iter().map(|line| line.trim()) {
        let short = line.strip_prefix("-h, ").or(line.strip_prefix("-V, "));
        match (short.unwrap_or(line).strip_prefix("--"), flags.last_mut()) {
            (Some(long), _) => {
                let (flag, rest) = long.split_once(' ').unwrap_or((long, ""));
                flags.push((format!("--{flag}"), rest.to_owned()));
            }
            (None, Some((_, description))) => *description += &format!(" {line}"),
            (None, None) => {}
        }
    }
    flags
}

#[tokio::test]
async fn help_describes_every_flag_and_names_its_variable() {
    let serve = "--policies --cloud --upstream --upstream-ca --upstream-connect-timeout --upstream-timeout \
                 --upstream-write-timeout --upstream-idle-timeout --upstream-http2 --insecure-upstream --public-url --listen --admin --tls-cert --tls-key \
                 --tls-client-ca --handover --upgrade --trusted-hops --audit --audit-full --state --threads --proxy-protocol --header-timeout --idle-timeout --client-patience --min-rate --request-timeout \
                 --max-connections --max-connections-per-address --max-requests-per-connection --max-streams \
                 --max-in-flight --shutdown-delay --shutdown-grace --log --insecure-listen --insecure-admin";
    let sandbox = "--listen --admin --running-for --log";
    for (command, flags) in [
        ("serve", serve),
        ("sandbox", sandbox),
        ("check", "--format"),
        ("test", ""),
        ("diff", "--audit"),
        ("schema", ""),
        ("explain", "--policies --token --claims --audit --body --content-type"),
    ] {
        let described = described(command).await;
        let named: Vec<_> = described.iter().map(|(flag, _)| flag.as_str()).collect();
        let expected: Vec<_> = flags.split_whitespace().chain(["--help", "--version"]).collect();
        assert_eq!(named, expected, "{command}");
        for (flag, description) in &described[..expected.len() - 2] {
            let variable = format!("[env: TOLLGATE_{}=]", flag[2..].to_uppercase().replace('-', "_"));
            let run_by_a_service = ["serve", "sandbox"].contains(&command);
            assert!(!run_by_a_service || description.contains(&variable), "{command} {flag}: {description}");
            assert!(description.split_whitespace().count() > 4, "{command} {flag}: {description}");
        }
    }
}

#[tokio::test]
async fn help_says_what_the_signals_do_and_what_the_exit_codes_mean() {
    for (command, parts) in [
        ("serve", &["SIGTERM", "SIGHUP reads the policy again", "Exit codes: 0", "2 could not start"][..]),
        ("sandbox", &["SIGTERM", "Exit codes: 0", "2 could not start"]),
        ("check", &["0  the set is right", "1  it has mistakes", "2  the folder cannot be read"]),
        ("diff", &["0  nothing changes", "1  something does", "2  a folder or the file cannot be read"]),
        ("explain", &["0  the call would be admitted", "1  it would be refused", "2  a file cannot be read"]),
        ("inventory", &["pull"]),
        ("test", &["0  every case went as it is written", "1  one did not", "2  the folder cannot be read"]),
    ] {
        let help = run(&[command, "--help"]).await.out.join("\n");
        assert!(parts.iter().all(|part| help.contains(part)), "{command}: {help}");
    }
    let commands = run(&["--help"]).await.out.join("\n");
    assert!(["serve", "sandbox", "check", "test"].iter().all(|name| commands.contains(name)), "{commands}");
}

#[tokio::test]
async fn every_flag_of_serve_can_be_given_by_its_variable() {
    let (folder, files) = (policy_folder(), LocalCertificate::make());
    let (cert, key, audit) = (files.cert(), files.key(), folder.path().join("audit.jsonl"));
    let state = folder.path().join("state");
    let environment = [
        ("TOLLGATE_POLICIES", text(folder.path())),
        ("TOLLGATE_UPSTREAM", "http://192.0.2.1:8443"),
        ("TOLLGATE_INSECURE_UPSTREAM", "1"),
        ("TOLLGATE_LISTEN", "0.0.0.0:0"),
        ("TOLLGATE_TLS_CERT", text(&cert)),
        ("TOLLGATE_TLS_KEY", text(&key)),
        ("TOLLGATE_ADMIN", "0.0.0.0:0"),
        ("TOLLGATE_INSECURE_ADMIN", "yes"),
        ("TOLLGATE_AUDIT", text(&audit)),
        ("TOLLGATE_PUBLIC_URL", "https://tollgate.example"),
        ("TOLLGATE_STATE", text(&state)),
        ("TOLLGATE_LOG", "off"),
    ];
    let serving = Serving::of(Process::start_in(["serve"], environment)).await;
    assert!(serving.gateway.ip().is_unspecified() && serving.admin.ip().is_unspecified());
    serving.process.signal(Signal::TERM);
    let ended = serving.process.ended().await;

    let version = version(&policy());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    // Nothing but where and what: the log is off.
    let [policy, upstream, remembered, links, gateway, _] = ended.err.as_slice() else {
        panic!("{ended:#?}")
    };
    assert!(
        policy.starts_with(&format!("policy   {version} from {}: ", folder.path().display())),
        "{policy}"
    );
    assert_eq!(upstream, "upstream http://192.0.2.1:8443");
    assert_eq!(links, "links    to https://tollgate.example");
    assert_eq!(*remembered, format!("state    {}: 0 actions, 0 keys of limits", state.display()));
    assert!(gateway.starts_with("gateway  https://"), "{gateway}");
    assert!(std::fs::read_to_string(audit).unwrap().contains(&*version));
}

#[tokio::test]
async fn a_variable_is_held_to_what_its_flag_takes() {
    let folder = policy_folder();
    let args = ["serve", "--policies", text(folder.path()), "--upstream", "http://127.0.0.1:1"];
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for (variable, value, said) in [
        ("TOLLGATE_AUDIT_FULL", "perhaps", "'perhaps' for '--audit-full"),
        ("TOLLGATE_THREADS", "none", "'none' for '--threads"),
        ("TOLLGATE_UPSTREAM_TIMEOUT", "2h", "'2h' for '--upstream-timeout"),
        ("TOLLGATE_INSECURE_LISTEN", "perhaps", "'perhaps' for '--insecure-listen"),
        ("TOLLGATE_LOG", "tollgate=loud", "--log tollgate=loud"),
    ] {
        let ended = run_in(&[&args[..], &ports].concat(), &[(variable, value)]).await;
        let (Some(2), [line]) = (ended.code, ended.err.as_slice()) else { panic!("{variable}: {ended:#?}") };
        assert!(line.starts_with("error: ") && line.contains(said), "{variable}: {line}");
    }
    for no in ["0", "false", "no", "off"] {
        let listen = ["--listen", "0.0.0.0:0"];
        let ended = run_in(&[&args[..], &listen].concat(), &[("TOLLGATE_INSECURE_LISTEN", no)]).await;
        assert!(ended.code == Some(2) && ended.err[0].contains("is not loopback"), "{no}: {ended:#?}");
    }
}

#[tokio::test]
async fn arguments_that_are_wrong_or_missing_are_said_in_one_line() {
    for (arguments, said) in [
        (&["diff", "old"][..], "error: the following required arguments were not provided: <NEW>"),
        (
            &["check", "policies", "--formt", "json"],
            "error: unexpected argument '--formt' found; tip: a similar argument exists: '--format'",
        ),
        (
            &["check", "policies", "--format", "xml"],
            "error: invalid value 'xml' for '--format <FORMAT>' [possible values: text, json]",
        ),
        (&["chck"], "error: unrecognized subcommand 'chck'; tip: a similar subcommand exists: 'check'"),
    ] {
        let ended = run(arguments).await;
        assert_eq!((ended.code, ended.out.len()), (Some(2), 0), "{arguments:?}");
        assert_eq!(ended.err, [said], "{arguments:?}");
    }
}
