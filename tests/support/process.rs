//! The real binary, as a process of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use tokio::sync::Notify;
use tollgate::time::Clock;

use crate::support::within_deadline;

pub(crate) use rustix::process::Signal;

/// A `tollgate` that runs, in an environment of its own. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    out: Arc<Printed>,
    err: Arc<Printed>,
    /// Where its temporary files lie, some of which outlive it when it is killed.
    _folder: TempDir,
}

/// How a `tollgate` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The lines of its standard output.
    pub(crate) out: Vec<String>,
    /// The lines of its standard error.
    pub(crate) err: Vec<String>,
}

/// What was printed so far.
#[derive(Default)]
struct Printed {
    state: Mutex<(Vec<String>, Stream)>,
    changed: Notify,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stream {
    #[default]
    Open,
    Ended,
}

/// Between two looks at what nobody tells of: whether a process has ended, whether a file is there.
const LOOK: Duration = Duration::from_millis(10);

// === impl Process ===

impl Process {
    /// Starts one with these arguments, and nothing in its environment but a folder for temporary files.
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::start_in(args, [])
    }

    /// Starts one with these arguments and environment.
    pub(crate) fn start_in<'e, S: AsRef<OsStr>>(
        args: impl IntoIterator<Item = S>,
        environment: impl IntoIterator<Item = (&'e str, &'e str)>,
    ) -> Self {
        Self::of(Command::new(env!("CARGO_BIN_EXE_tollgate")).args(args), environment)
    }

    /// Starts what a shell makes of this line.
    pub(crate) fn shell(line: &str) -> Self {
        Self::of(Command::new("/bin/sh").args(["-c", line]), [])
    }

    fn of<'e>(command: &mut Command, environment: impl IntoIterator<Item = (&'e str, &'e str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command
            .env_clear()
            .env("TMPDIR", folder.path())
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Printed::read(child.stdout.take().unwrap());
        let err = Printed::read(child.stderr.take().unwrap());
        Self { child, out, err, _folder: folder }
    }

    /// Waits for a line on standard error that begins with this; returns what follows, to the first space.
    pub(crate) async fn says(&self, beginning: &str) -> String {
        self.err.word_after(beginning).await
    }

    /// Waits for a line on standard error that holds this anywhere.
    pub(crate) async fn says_anywhere(&self, part: &str) {
        self.err.find(part, |lines| lines.iter().any(|line| line.contains(part)).then_some(())).await;
    }

    /// The same on standard output.
    pub(crate) async fn prints(&self, beginning: &str) -> String {
        self.out.word_after(beginning).await
    }

    /// Everything on standard output until this line.
    pub(crate) async fn prints_until(&self, last: impl Fn(&str) -> bool) -> Vec<String> {
        self.out
            .find("a last line", |lines| lines.iter().any(|line| last(line)).then(|| lines.to_vec()))
            .await
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.err.state.lock().0.clone()
    }

    /// How many threads of this name it has.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that ends meanwhile has no name any more.
        let names = threads.flatten().flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")));
        names.filter(|thread| thread.trim_end() == name).count()
    }

    /// What of a resource it may have before it asks for more, as the system names both.
    pub(crate) fn limit(&self, resource: &str) -> Option<String> {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix(resource))?;
        limit.split_whitespace().next().map(str::to_owned)
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.unwrap_or_else(|| panic!("no peak in {status}")).trim().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = eventually("the process's end", || self.child.try_wait().unwrap()).await;
        let code = ExitStatus::code(&status);
        Ended { code, out: self.out.to_the_end().await, err: self.err.to_the_end().await }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Printed ===

impl Printed {
    /// Reads on a thread of its own, so that the process never waits for a full pipe.
    fn read(stream: impl Read + Send + 'static) -> Arc<Self> {
        let printed = Arc::new(Self::default());
        let writer = printed.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                writer.state.lock().0.push(line.unwrap());
                writer.changed.notify_waiters();
            }
            writer.state.lock().1 = Stream::Ended;
            writer.changed.notify_waiters();
        });
        printed
    }

    async fn word_after(&self, beginning: &str) -> String {
        let word = |lines: &[String]| {
            let rest = lines.iter().find_map(|line| line.strip_prefix(beginning))?;
            Some(rest.trim_start().split(' ').next().unwrap_or_default().to_owned())
        };
        self.find(beginning, word).await
    }

    async fn to_the_end(&self) -> Vec<String> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let (lines, Stream::Ended) = &*self.state.lock() {
                return lines.clone();
            }
            within_deadline("the end of what is printed", changed).await;
        }
    }

    /// Waits until the lines hold what is looked for; fails the test if they end without it.
    async fn find<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a line in between is not missed.
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                if let Some(found) = look(&state.0) {
                    return found;
                }
                assert!(state.1 == Stream::Open, "expected `{what}`, got {:#?}", state.0);
            }
            within_deadline(what, changed).await;
        }
    }
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within_deadline(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            Clock::System.sleep(LOOK).await;
        }
    })
    .await
}

/// The socket address in a URL that was printed.
pub(crate) fn address_of(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").unwrap_or_else(|| panic!("expected a URL, got {url}"));
    rest.split('/')
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("expected an address in {url}"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
