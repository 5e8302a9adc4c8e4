//! The sandbox's calls, pasted into a shell as a newcomer would.

use std::process::Command;

use tollgate::sandbox::world::{Call, Tokens, calls};

use super::wanted;
use crate::support::gateway::issuer;
use crate::support::process::{Process, eventually};

/// A call as it was printed: its title, the answer to expect, the line to paste.
struct Printed {
    title: String,
    expect: String,
    line: String,
}

/// What a shell made of a line.
struct Pasted {
    output: String,
    errors: String,
}

#[tokio::test]
async fn every_printed_call_pasted_twice_in_any_order_gives_the_printed_answer() {
    if !wanted(&["bash", "curl"]) {
        return;
    }
    for seed in [1, 2, 3] {
        let sandbox = Process::start(["sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let lines = sandbox.prints_until(|line| line.starts_with("tail ")).await;
        let printed = printed_calls(&lines);
        let known = calls(([127, 0, 0, 1], 1).into(), &Tokens::issue(issuer()));
        let titles: Vec<_> = known.iter().map(|call| call.title).collect();
        assert_eq!(printed.iter().map(|call| call.title.as_str()).collect::<Vec<_>>(), titles);

        let mut order: Vec<usize> = (0..printed.len()).chain(0..printed.len()).collect();
        shuffle(&mut order, seed);
        for place in &order {
            let pasted = paste(&printed[*place].line);
            assert_answer(&printed[*place], &known[*place], &pasted, &format!("seed {seed}, {order:?}"));
        }

        // As many requests as there were: three in the line that asks thrice, one in each other.
        let metrics = lines.iter().find(|line| line.contains("/metrics | grep")).unwrap();
        let all = 2 * (printed.len() + 2);
        // A call is counted once it is over, which may be after its caller has the answer.
        eventually("all calls counted", || (counted(&paste(metrics).output) >= all).then_some(())).await;
        assert_eq!(counted(&paste(metrics).output), all, "{metrics}");
        let trail = paste(lines.last().unwrap()).output;
        assert!(trail.lines().count() == 3 && trail.contains("\"time\""), "{trail}");
    }
}

/// The sum of the values of metrics.
fn counted(metrics: &str) -> usize {
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<usize>().ok());
    metrics.lines().map(|line| value(line).unwrap_or_else(|| panic!("expected a count in {line}"))).sum()
}

fn printed_calls(lines: &[String]) -> Vec<Printed> {
    let calls = lines.windows(3).filter_map(|three| {
        let [title, expect, line] = three else { return None };
        let (title, expect) = (title.strip_prefix("# ")?, expect.strip_prefix("# expect ")?);
        assert!(line.starts_with("curl "), "{line}");
        Some(Printed { title: title.into(), expect: expect.into(), line: line.clone() })
    });
    calls.collect()
}

/// Pastes a line into a shell whose user goes through a proxy, which nobody is behind: the sandbox is on this
/// machine, and no proxy finds it.
fn paste(line: &str) -> Pasted {
    let output = Command::new("bash")
        .args(["-c", line])
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Pasted { output: text(output.stdout).replace('\r', ""), errors: text(output.stderr) }
}

#[track_caller]
fn assert_answer(printed: &Printed, known: &Call, pasted: &Pasted, order: &str) {
    let Printed { title, expect, .. } = printed;
    let Pasted { output, errors } = pasted;
    let what = format!("{title} ({order}): expected {expect}, got {output}{errors}");
    assert!(errors.is_empty(), "{what}");
    let words: Vec<_> = expect.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
    assert_eq!(output.lines().last(), words.first().copied(), "{what}");
    // The last answer's, where there are several.
    let headers = output.lines().filter_map(|line| line.split_once(": "));
    let reasons = headers.filter(|(name, _)| name.eq_ignore_ascii_case("Tollgate-Reason"));
    assert_eq!(
        { reasons }.next_back().map(|(_, reason)| reason),
        known.reason.map(|reason| reason.as_str()),
        "{what}"
    );
    // `403 Forbidden …` is the code of our answer; what the API says is told in other words.
    if words[1] != "from" {
        assert!(output.contains(&format!(r#""code":"{}""#, words[1])), "{what}");
    }
    for word in ["ActiveRequestAlreadyExists", "machineAction", "Pending", "Retry-After", "WWW-Authenticate"]
    {
        let in_answer = output.to_lowercase().contains(&word.to_lowercase());
        assert!(in_answer || !words.contains(&word), "{what}: no `{word}`");
    }
}

/// Fisher and Yates' shuffle, the same for the same seed (xorshift64, Marsaglia 2003).
fn shuffle(list: &mut [usize], seed: u64) {
    let mut state = seed;
    for last in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        list.swap(last, (state % (last as u64 + 1)) as usize);
    }
}
