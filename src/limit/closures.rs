//! The lanes that the API itself has closed: it answered 429, and said for how long.
//!
//! In normal times there is none, and a call reads one counter to know it. Else one lock guards them, held for a look-up;
//! by whoever closes a lane also while the held calls of that lane are moved behind the closure, so that none that comes
//! later gets before them.
//!
//! What can go wrong: a call that had its leave just before a lane was closed goes on; the API turns it away too. With
//! [`MAX_CLOSED`] lanes closed, another one is not: its calls go on, and the API turns them away.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

use crate::limit::charges::Lane;
use crate::limit::closure::{self, Closure, End, Pass};
use crate::limit::sync::Mutex;
use crate::time::{Clock, Steady};

/// Every lane that is closed, or is being opened.
#[derive(Debug, Default)]
pub(super) struct Closures {
    /// How many there are.
    count: AtomicUsize,
    /// How many calls wait until another one has ended, on all of them together.
    waiting: AtomicUsize,
    lanes: Mutex<HashMap<Lane, Shut>>,
    /// The last moment at which anyone goes, once the process stops.
    ends: watch::Sender<Option<Steady>>,
}

#[derive(Debug)]
struct Shut {
    closure: Closure,
    /// Told when a call may go.
    freed: Arc<Notify>,
    /// How many calls wait for that. Those that come later wait too: first come, first served.
    waiting: usize,
    /// How many of them were told, and have not asked yet.
    told: usize,
}

/// What a call gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// The lane is open.
    Open,
    /// It may go.
    Go(Leave),
    /// Not before this moment.
    NotBefore(Steady),
    /// Not before this is over.
    Busy(Queued),
}

/// The leave to go on a lane that is being opened. Dropped, the call has ended.
#[derive(Debug)]
pub(super) struct Leave {
    closures: Arc<Closures>,
    lane: Lane,
    pass: Pass,
    end: End,
}

/// A place among those that wait for a lane, first come, first served. As a future it is over when it is the call's turn
/// to [ask](Self::ask).
#[derive(Debug)]
pub(super) struct Queued {
    closures: Arc<Closures>,
    lane: Lane,
    /// How many waited there when it came.
    before: usize,
    freed: Pin<Box<OwnedNotified>>,
    place: Place,
}

/// How the wait of a call in the row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is its turn to ask.
    Told,
    /// It has waited for as long as it may.
    TooLong,
    /// The process ends before that.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Taken,
    Left,
}

/// A lane that is closed, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedLane {
    /// Which calls.
    pub lane: Lane,
    /// For how long none of them goes; zero while it is being opened.
    pub opens_in: Duration,
    /// How many calls wait until another one has ended.
    pub waiting: usize,
}

/// The most lanes that are closed at a time: an operation of an application each, some 300 bytes.
pub(super) const MAX_CLOSED: usize = 10_000;

/// How long a lane is remembered that nobody uses after it has opened: the longest window of most documented limits.
const FORGET: Duration = Duration::from_secs(3_600);

// === impl Closures ===

impl Closures {
    /// Whether no lane is closed.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// How many calls wait until another one has ended.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Asks for a call of this lane that has just come. One that would overtake those that wait is to wait too.
    pub(super) fn ask(self: &Arc<Self>, lane: &Lane, now: Steady) -> Answer {
        let mut lanes = self.lanes.lock();
        let Some(shut) = lanes.get_mut(lane) else { return Answer::Open };
        let answer = match shut.closure.until(now) {
            Some(until) => closure::Answer::NotBefore(until),
            // Where none has gone since the lane was closed, nobody's end would wake those that are told of that now.
            None if shut.waiting > 0 && shut.closure.is_being_opened() => closure::Answer::Busy,
            None => shut.closure.ask(now),
        };
        self.answer(answer, lane, shut)
    }

    fn answer(self: &Arc<Self>, answer: closure::Answer, lane: &Lane, shut: &mut Shut) -> Answer {
        match answer {
            closure::Answer::NotBefore(until) => Answer::NotBefore(until),
            closure::Answer::Go(pass) => {
                let (closures, lane) = (self.clone(), lane.clone());
                Answer::Go(Leave { closures, lane, pass, end: End::Nothing })
            }
            closure::Answer::Busy => {
                let before = shut.waiting;
                shut.waiting += 1;
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let mut freed = Box::pin(shut.freed.clone().notified_owned());
                // From now on it is told, also before it is first polled.
                freed.as_mut().enable();
                let (closures, lane) = (self.clone(), lane.clone());
                Answer::Busy(Queued { closures, lane, before, freed, place: Place::Taken })
            }
        }
    }

    /// Waits until it is the turn of a call to ask, at most until `by`, and no longer than the process lives.
    pub(super) async fn wait(&self, queued: &mut Queued, by: Steady, clock: &Clock) -> Waited {
        let mut ends = self.ends.subscribe();
        loop {
            let (last, waited) = match *ends.borrow_and_update() {
                Some(ends) if ends < by => (ends, Waited::Ended),
                Some(_) | None => (by, Waited::TooLong),
            };
            tokio::select! {
                biased;
                () = &mut *queued => return Waited::Told,
                () = clock.sleep_until(last) => return waited,
                // The sender is this.
                _ = ends.changed() => {}
            }
        }
    }

    /// Nobody waits for longer than this, from now on, or waits as ever again.
    pub(super) fn end(&self, ends: Option<Steady>) {
        self.ends.send_replace(ends);
    }

    /// The API turned a call of this lane away until then; `move_held` moves the calls of the lane that are held behind
    /// the moment that it gets.
    pub(super) fn close(&self, lane: &Lane, until: Steady, now: Steady, move_held: impl FnOnce(Steady)) {
        let mut lanes = self.lanes.lock();
        if lanes.len() >= MAX_CLOSED && !lanes.contains_key(lane) {
            lanes.retain(|_, shut| shut.waiting > 0 || !shut.closure.is_idle(now));
        }
        let known = lanes.len();
        let until = match lanes.get_mut(lane) {
            Some(shut) => {
                let until = shut.closure.close(until);
                // They were waiting for a lane that was being opened.
                shut.freed.notify_waiters();
                until
            }
            None if known >= MAX_CLOSED => return,
            None => {
                let (closure, freed) = (Closure::new(until), Arc::default());
                lanes.insert(lane.clone(), Shut { closure, freed, waiting: 0, told: 0 });
                until
            }
        };
        self.count.store(lanes.len(), Ordering::Relaxed);
        move_held(until);
    }

    /// A limit of ours binds the calls of this lane, so that it needs no other.
    pub(super) fn forget(&self, lane: &Lane) {
        let mut lanes = self.lanes.lock();
        if let Some(shut) = lanes.remove(lane) {
            shut.freed.notify_waiters();
        }
        self.count.store(lanes.len(), Ordering::Relaxed);
    }

    /// Forgets the lanes that have opened, and that nobody used for an hour.
    pub(super) fn sweep(&self, now: Steady) {
        if self.is_empty() {
            return;
        }
        let mut lanes = self.lanes.lock();
        let before = Steady::from_nanos(now.as_nanos().saturating_sub(FORGET.as_nanos() as u64));
        lanes.retain(|_, shut| shut.waiting > 0 || !shut.closure.is_idle(before));
        self.count.store(lanes.len(), Ordering::Relaxed);
    }

    /// Every lane that is closed, the one that is for the longest first.
    pub(super) fn list(&self, now: Steady) -> Vec<ClosedLane> {
        let lanes = self.lanes.lock();
        let each = lanes.iter().map(|(lane, shut)| ClosedLane {
            lane: lane.clone(),
            opens_in: shut.closure.until(now).map_or(Duration::ZERO, |until| until.since(now)),
            waiting: shut.waiting,
        });
        let mut closed: Vec<_> = each.collect();
        drop(lanes);
        closed.sort_by_key(|closed| (std::cmp::Reverse(closed.opens_in), closed.lane.operation.clone()));
        closed
    }

    /// A call that went has ended.
    fn leave(&self, lane: &Lane, pass: Pass, end: End) {
        let mut lanes = self.lanes.lock();
        let Some(shut) = lanes.get_mut(lane) else { return };
        match shut.closure.end(pass, end) {
            closure::Lane::Open => {
                shut.freed.notify_waiters();
                lanes.remove(lane);
                self.count.store(lanes.len(), Ordering::Relaxed);
            }
            closure::Lane::Closed { room } => {
                let wake = (room as usize).min(shut.waiting).saturating_sub(shut.told);
                (0..wake).for_each(|_| shut.freed.notify_one());
                shut.told += wake;
            }
        }
    }
}

// === impl Leave ===

impl Leave {
    /// The API answered the call, and not that it was one too many.
    pub(super) fn succeed(&mut self) {
        self.end = End::Success;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.closures.leave(&self.lane, self.pass, self.end);
    }
}

// === impl Shut ===

impl Shut {
    /// A call that waited goes, or goes away.
    fn leave(&mut self, told: usize) {
        self.waiting = self.waiting.saturating_sub(1);
        self.told = self.told.saturating_sub(told).min(self.waiting);
    }
}

// === impl Queued ===

impl Queued {
    /// How many waited for the lane when it came.
    pub(super) fn before(&self) -> usize {
        self.before
    }

    /// Asks when it is the call's turn.
    pub(super) fn ask(mut self, now: Steady) -> Answer {
        let closures = self.closures.clone();
        let mut lanes = closures.lanes.lock();
        self.place = Place::Left;
        let Some(shut) = lanes.get_mut(&self.lane) else { return Answer::Open };
        shut.leave(1);
        let answer = match shut.closure.until(now) {
            Some(until) => closure::Answer::NotBefore(until),
            None => shut.closure.ask(now),
        };
        closures.answer(answer, &self.lane, shut)
    }
}

impl Future for Queued {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.freed.as_mut().poll(context)
    }
}

impl Drop for Queued {
    /// If it was told and did not ask, the next in the row is told: the library sees to that.
    fn drop(&mut self) {
        self.closures.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.place == Place::Taken
            && let Some(shut) = self.closures.lanes.lock().get_mut(&self.lane)
        {
            shut.leave(0);
        }
    }
}
