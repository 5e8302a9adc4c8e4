//! From the files in `tests/` to cases that can be played.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use toml::Spanned;

use super::caller::Caller;
use super::document::{CallerDocument, CaseDocument, DeviceDocument, StepDocument, Tokens, Word};
use crate::cli::rehearsal::{Call, Rehearsal};
use crate::id::{ActionId, DeviceRef};
use crate::outcome::ReasonCode;
use crate::source::{Place, PolicyFiles, Problems, SourceFile, known_are};
use crate::time::Wall;

mod words;

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
    /// When the inventory was written; none if its files say it.
    pub(super) inventory: Option<Wall>,
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
    /// What it would be if everything were enforced; anything, if the case does not say it.
    pub(super) if_enforced: Option<Verdict>,
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
        let mut actions = Vec::new();
        for (action, device) in &document.actions {
            match ActionId::parse(action) {
                Some(action) => actions.push((action, DeviceRef::parse(device))),
                None => self.at(&document.name, format_args!("`{action}` is not the id of an action")),
            }
        }
        let name = document.name.get_ref().clone();
        let age = document.inventory_age.as_ref().map(|word| self.offset(word, Duration::ZERO));
        let age = age.map_or(Some(None), |age| age.map(Some));
        let (steps, begins) = (self.steps(document)?, begins.unwrap_or(Some(BEGINNING))?);
        let written = |age: Duration| {
            Wall::from_unix_seconds(begins.unix_seconds().saturating_sub_unsigned(age.as_secs()))
        };
        Some(Case { name, place, begins, inventory: age?.map(written), actions, steps })
    }

    /// The steps of a case, or the one that it is by itself.
    fn steps(&mut self, mut case: CaseDocument) -> Option<Vec<Step>> {
        if case.steps.is_empty() {
            let Some(expect) = case.expect.take() else {
                self.at(&case.name, "a case needs `expect`, or `steps` that have it");
                return None;
            };
            let (operation, left, retry_after) = (case.operation.take(), case.left.take(), case.retry_after);
            let (held, if_enforced) = (case.held.take(), case.if_enforced.take());
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
                if_enforced,
                operation,
                left,
                retry_after,
                held,
            };
            return Some(vec![self.step(step, &case, Duration::ZERO)?]);
        }
        if case.expect.is_some()
            || case.if_enforced.is_some()
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
        let if_enforced = step.if_enforced.as_ref().map(|word| self.verdict(word));
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
                if_enforced: if_enforced.map_or(Some(None), |verdict| verdict.map(Some))?,
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
}
