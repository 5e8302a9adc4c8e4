//! Microsoft's own OAuth client, as a playbook uses it: its token comes from the sandbox's issuer over TLS, and the
//! gateway admits the call that it makes with it.

use std::process::Command;

use super::wanted;
use crate::support::process::Process;

/// Debian's, which has the packages that `.ci/run` installs, whatever other Python comes first in `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// Takes authority, client id, secret and the gateway's address, and prints what came of it, a word a line.
const PLAYBOOK: &str = r#"
import sys, msal, requests
authority, client, secret, gateway = sys.argv[1:]
app = msal.ConfidentialClientApplication(
    client, authority=authority, client_credential=secret, instance_discovery=False)
scopes = ["https://api.securitycenter.microsoft.com/.default"]
answer = app.acquire_token_for_client(scopes)
print(answer.get("token_type"), answer.get("error"), answer.get("error_description"))
cached = app.acquire_token_silent(scopes, account=None) or app.acquire_token_for_client(scopes)
print(cached["access_token"] == answer["access_token"])
session = requests.Session()
session.trust_env = False
for token in [answer["access_token"], answer["access_token"], answer["access_token"][:-1]]:
    answer = session.post(
        gateway + "/api/machines/srv-dc01.contoso.example/collectInvestigationPackage",
        json={"Comment": "alert 1234"}, headers={"Authorization": "Bearer " + token})
    print(answer.status_code, answer.headers.get("Tollgate-Reason"))
wrong = msal.ConfidentialClientApplication(
    client, authority=authority, client_credential="wrong", instance_discovery=False)
print(wrong.acquire_token_for_client(scopes).get("error"))
"#;

#[tokio::test]
async fn msal_gets_its_token_from_the_sandboxs_issuer_and_the_gateway_admits_it() {
    if !wanted(&[PYTHON]) {
        return;
    }
    let sandbox = Process::start(["sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let lines = sandbox.prints_until(|line| line.starts_with("OAuth")).await;
    let word = |line: &str, after: &str| {
        let line = lines.iter().find(|other| other.starts_with(line));
        let rest = line.and_then(|line| line.split_once(after)).map(|(_, rest)| rest.trim_start());
        let word = rest.and_then(|rest| rest.split([' ', ',']).next());
        word.unwrap_or_else(|| panic!("expected `{after}` in {lines:#?}")).to_owned()
    };
    let output = Command::new(PYTHON)
        .args(["-c", PLAYBOOK, &word("OAuth", "authority"), &word("OAuth", "client")])
        .args([word("OAuth", "secret"), word("gateway", "gateway")])
        .env("REQUESTS_CA_BUNDLE", word("issuer CA", "CA"))
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, errors) = (text(output.stdout), text(output.stderr));
    // The 400 is the API's: a collection runs on the device already.
    let expected = ["Bearer None None", "True", "201 None", "400 None", "401 bad_token", "invalid_client"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{errors}");
}
