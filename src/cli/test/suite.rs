//! From the files in `tests/` to cases that can be played.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use toml::{Spanned, Value};

use super::caller::{Caller, to_json};
use super::document::{CallerDocument, CaseDocument, DeviceDocument, StepDocument, Tokens, Word};
use crate::cli::rehearsal::{Call, Rehearsal};
use crate::id::{ActionId, DeviceRef};
use crate::outcome::ReasonCode;
use crate::source::{Place, PolicyFiles, Problems, SourceFile, known_are};
use crate::time::Wall;

/// Every case of a policy folder.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) cases: Vec<Case>,
}

/// One case: calls one after another, from empty windows.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) begins: Wall,
    pub(super) actions: Vec<(ActionId, DeviceRef)>,
    /// INVARIANT: at least one, none before the one before it.
    pub(super) steps: Vec<Step>,
}

/// One call, made once or several times, and what must become of it each time.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) repeat: u32,
    pub(super) tokens: Tokens,
    /// None for a call without a token.
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) call: Call,
    pub(super) expected: Expected,
}

/// What must become of a call.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) verdict: Verdict,
    pub(super) operation: Option<String>,
    pub(super) left: BTreeMap<String, u32>,
    pub(super) retry_after: Option<u64>,
    /// How long it waits for room before that.
    pub(super) held: Option<Duration>,
}

/// Admitted, or refused for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Refused(ReasonCode),
}

/// What a file is read with.
struct Reader<'a> {
    source: &'a SourceFile,
    callers: &'a HashMap<String, Arc<Caller>>,
    problems: &'a mut Problems,
}

/// When a case begins that does not say it: 2026-01-01T00:00:00Z.
const BEGINNING: Wall = Wall::from_unix_seconds(1_767_225_600);

/// A step may be repeated this many times: enough to fill a documented limit of an hour many times over.
const MAX_REPEAT: u32 = 100_000;

/// The devices that stand in the place of the inventory.
const DEVICES: &str = "devices.csv";

// === impl Suite ===

/// The set with the devices of the cases in the place of its inventory, if they name any.
pub(super) fn with_devices(
    mut set: PolicyFiles,
    cases: &PolicyFiles,
    problems: &mut Problems,
) -> PolicyFiles {
    let mut devices: Vec<DeviceDocument> = Vec::new();
    for source in cases.iter() {
        let Some(mut file) = source.toml(&mut Problems::default()) else { continue };
        devices.extend(file.entries("device", problems).into_iter().map(Spanned::into_inner));
    }
    if devices.is_empty() {
        return set;
    }
    let inventory: Vec<_> = set.under("devices").map(|file| file.name().clone()).collect();
    inventory.iter().for_each(|name| set.remove(name));
    let mut rows = csv::Writer::from_writer(Vec::new());
    let groups = devices.iter().any(|device| device.group.is_some());
    let header = ["Device ID", "Device Name", "Domain", "OS Platform", "Tags", "AAD Device ID", "Group"];
    let columns = if groups { header.len() } else { header.len() - 1 };
    // Writing to memory does not fail.
    let _ = rows.write_record(header.iter().take(columns));
    for device in &devices {
        let DeviceDocument { id, name, domain, os_platform, tags, entra_id, group } = device;
        let (tags, group) = (tags.join(";"), group.clone().unwrap_or_default());
        let row = [id.get_ref(), name, domain, os_platform, &tags, entra_id, &group];
        let _ = rows.write_record(row.iter().take(columns));
    }
    let text = rows.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok());
    set.insert(SourceFile::new(DEVICES, text.unwrap_or_default()));
    set
}

impl Suite {
    /// Reads every file; every mistake becomes a problem.
    pub(super) fn read(files: &PolicyFiles, rehearsal: &Rehearsal, problems: &mut Problems) -> Self {
        let mut callers = HashMap::new();
        let mut cases = Vec::new();
        for source in files.iter() {
            let Some(mut file) = source.toml(problems) else { continue };
            // Read before the set was compiled, and their mistakes noted then.
            let _: Vec<Spanned<DeviceDocument>> = file.entries("device", &mut Problems::default());
            for document in file.entries::<CallerDocument>("caller", problems) {
                let document = document.into_inner();
                let (name, span) = (document.name.get_ref().clone(), document.name.span());
                let caller = Caller::read(document, rehearsal, source, problems);
                if callers.contains_key(&name) {
                    problems.at(source, span, format_args!("the caller `{name}` is given twice"));
                }
                // A caller with a mistake is known all the same: its mistake is reported once.
                if let Some(caller) = caller {
                    callers.insert(name, Arc::new(caller));
                }
            }
            cases.push((source, file.entries::<CaseDocument>("case", problems)));
            file.finish(problems);
        }
        let mut suite = Self { cases: Vec::new() };
        for (source, documents) in cases {
            let mut reader = Reader { source, callers: &callers, problems };
            let read = documents.into_iter().filter_map(|document| reader.case(document.into_inner()));
            suite.cases.extend(read);
        }
        suite
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn case(&mut self, document: CaseDocument) -> Option<Case> {
        let place = self.source.place_of(document.name.span());
        let begins = document.begins.as_ref().map(|word| self.time(word));
        let actions = document
            .actions
            .iter()
            .filter_map(|(action, device)| Some((ActionId::parse(action)?, DeviceRef::parse(device))));
        let actions = actions.collect();
        let name = document.name.get_ref().clone();
        let steps = self.steps(document)?;
        Some(Case { name, place, begins: begins.unwrap_or(Some(BEGINNING))?, actions, steps })
    }

    /// The steps of a case, or the one that it is by itself.
    fn steps(&mut self, mut case: CaseDocument) -> Option<Vec<Step>> {
        if case.steps.is_empty() {
            let Some(expect) = case.expect.take() else {
                self.at(&case.name, "a case needs `expect`, or `steps` that have it");
                return None;
            };
            let (operation, left, retry_after) = (case.operation.take(), case.left.take(), case.retry_after);
            let held = case.held.take();
            let step = StepDocument {
                at: None,
                repeat: None,
                tokens: Tokens::Same,
                caller: None,
                call: None,
                body: None,
                headers: None,
                address: None,
                expect,
                operation,
                left,
                retry_after,
                held,
            };
            return Some(vec![self.step(step, &case, Duration::ZERO)?]);
        }
        if case.expect.is_some()
            || case.operation.is_some()
            || case.left.is_some()
            || case.retry_after.is_some()
            || case.held.is_some()
        {
            self.at(&case.name, "what must become of a call stands in the steps, where there are any");
        }
        let (mut steps, mut last) = (Vec::new(), Duration::ZERO);
        let documents = std::mem::take(&mut case.steps);
        let all = documents.len();
        for document in documents {
            if let Some(step) = self.step(document.into_inner(), &case, last) {
                last = step.at;
                steps.push(step);
            }
        }
        (steps.len() == all).then_some(steps)
    }

    fn step(&mut self, step: StepDocument, case: &CaseDocument, last: Duration) -> Option<Step> {
        let at = step.at.as_ref().map_or(Some(last), |word| self.offset(word, last));
        let repeat = step.repeat.as_ref().map_or(Some(1), |repeat| self.repeat(repeat));
        let caller = match step.caller.as_ref().or(case.caller.as_ref()) {
            None => Some(None),
            Some(word) => self.caller(word),
        };
        let Some(call) = step.call.as_ref().or(case.call.as_ref()) else {
            self.at(&case.name, "a case needs a `call` such as `GET /api/machines`");
            return None;
        };
        let line = self.line(call);
        let body = step.body.or_else(|| case.body.clone()).map(|body| self.body(call, body));
        let headers = self.headers(step.headers.as_ref().or(case.headers.as_ref()), body.is_some());
        let address = step.address.as_ref().or(case.address.as_ref()).map(|word| {
            let address = word.get_ref().parse();
            address.map_err(|_| self.at(word, format_args!("`{}` is not an IP address", word.get_ref()))).ok()
        });
        let verdict = self.verdict(&step.expect);
        let held = step.held.as_ref().map(|word| self.offset(word, Duration::ZERO));
        let held = held.map_or(Some(None), |held| held.map(Some));
        let (method, target) = line?;
        Some(Step {
            at: at?,
            repeat: repeat?,
            tokens: step.tokens,
            caller: caller?,
            call: Call {
                method,
                target,
                headers: headers?,
                body: body.unwrap_or(Some(Bytes::new()))?,
                address: address.map_or(Some(None), |address| address.map(Some))?,
            },
            expected: Expected {
                verdict: verdict?,
                operation: step.operation.map(Spanned::into_inner),
                left: step.left.unwrap_or_default(),
                retry_after: step.retry_after,
                held: held?,
            },
        })
    }

    fn caller(&mut self, word: &Word) -> Option<Option<Arc<Caller>>> {
        if let Some(caller) = self.callers.get(word.get_ref()) {
            return Some(Some(caller.clone()));
        }
        self.at(word, format_args!("unknown caller `{}`", word.get_ref()));
        let mut known: Vec<_> = self.callers.keys().map(String::as_str).collect();
        known.sort_unstable();
        self.problems.hint(known_are(word.get_ref(), known));
        None
    }

    fn line(&mut self, word: &Word) -> Option<(Method, String)> {
        let parsed = word.get_ref().split_once(' ').and_then(|(method, target)| {
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            (!target.is_empty() && !target.contains(' ')).then(|| (method, target.to_owned()))
        });
        if parsed.is_none() {
            let message = format_args!("`{}` is not a call such as `GET /api/machines`", word.get_ref());
            self.at(word, message);
        }
        parsed
    }

    fn body(&mut self, call: &Word, body: Value) -> Option<Bytes> {
        match body {
            // As it is, whatever it is.
            Value::String(text) => Some(text.into()),
            body => match to_json(body) {
                Some(json) => Some(json.to_string().into()),
                None => {
                    self.at(call, "the body of this call is no JSON: dates are written as strings");
                    None
                }
            },
        }
    }

    fn headers(&mut self, written: Option<&BTreeMap<String, Word>>, has_body: bool) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in written.into_iter().flatten() {
            let parsed = name.parse::<HeaderName>().ok().zip(value.get_ref().parse().ok());
            let Some((header, text)) = parsed else {
                self.at(value, format_args!("`{name}` with this value is no header"));
                return None;
            };
            headers.insert(header, text);
        }
        Some(headers)
    }

    fn verdict(&mut self, word: &Word) -> Option<Verdict> {
        const ADMITTED: &str = "admitted";
        let text = word.get_ref();
        if text == ADMITTED {
            return Some(Verdict::Admitted);
        }
        let found = ReasonCode::ALL.iter().find(|reason| reason.as_str() == text);
        if found.is_none() {
            self.at(word, format_args!("`{text}` is neither `{ADMITTED}` nor a reason"));
            let known: Vec<_> =
                ReasonCode::ALL.iter().map(|reason| reason.as_str()).chain([ADMITTED]).collect();
            self.problems.hint(known_are(text, known));
        }
        found.map(|reason| Verdict::Refused(*reason))
    }

    fn time(&mut self, word: &Word) -> Option<Wall> {
        let parsed = word.get_ref().parse::<jiff::Timestamp>();
        if parsed.is_err() {
            let message = format_args!("`{}` is not a time such as `2026-01-01T08:00:00Z`", word.get_ref());
            self.at(word, message);
        }
        parsed.ok().map(|time| Wall::from_unix_seconds(time.as_second()))
    }

    fn offset(&mut self, word: &Word, last: Duration) -> Option<Duration> {
        let parsed = word.get_ref().parse::<jiff::SignedDuration>().ok();
        let parsed = parsed.and_then(|offset| Duration::try_from(offset).ok());
        match parsed {
            None => {
                self.at(word, format_args!("`{}` is not a time such as `18s` or `1h 5m`", word.get_ref()))
            }
            Some(at) if at < last => {
                self.at(
                    word,
                    "a step comes before the one above it: times count from the beginning of the case",
                );
            }
            Some(at) => return Some(at),
        }
        None
    }

    fn repeat(&mut self, repeat: &Spanned<u32>) -> Option<u32> {
        let count = *repeat.get_ref();
        if !(1..=MAX_REPEAT).contains(&count) {
            let message = format_args!("a step is repeated 1 to {MAX_REPEAT} times");
            self.problems.at(self.source, repeat.span(), message);
            return None;
        }
        Some(count)
    }

    fn at(&mut self, word: &Word, message: impl std::fmt::Display) {
        self.problems.at(self.source, word.span(), message);
    }
}
