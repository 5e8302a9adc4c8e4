//! Calls on lanes that the API itself has closed.

use std::time::Duration;

use super::{Admission, Hold, Limiter, Refusal, RetryAfter};
use crate::limit::charges::{Charges, Lane};
use crate::limit::closures::{Answer, ClosedLane, Waited};
use crate::limit::decision::Refused;
use crate::time::Clock;

/// How long a call is sent away that would be one too many on a lane that is being opened: one of those on their way may
/// end at any time.
const BUSY_RETRY: RetryAfter = RetryAfter(1_000_000_000);

impl Limiter {
    /// The same when the call's lane may be closed. A call that has been admitted already was held until now.
    pub(super) async fn through_lane<'a>(
        &self,
        charges: &Charges<'a>,
        mut admitted: Option<Admission>,
        clock: &Clock,
    ) -> Result<Admission, Refusal<'a>> {
        let (lane, now) = (charges.lane(), clock.steady());
        let since = admitted.as_ref().and_then(|admission| admission.hold).map_or(now, |hold| hold.since);
        let by = charges.patience().map(|patience| since + patience);
        let charges = charges.by(by);
        // When it had its turn, if it waited for one.
        let mut had_turn = None;
        let mut answer = self.closures.ask(&lane, now);
        loop {
            answer = match (answer, admitted.take()) {
                (Answer::Open, Some(admission)) => return Ok(admission.since(since)),
                (Answer::Open, None) => {
                    let admission = self.place(&charges, clock).await?;
                    if admission.hold.is_none() {
                        return Ok(admission);
                    }
                    admitted = Some(admission);
                    self.closures.ask(&lane, clock.steady())
                }
                (Answer::Go(leave), Some(admission)) => return Ok(admission.since(since).with(leave)),
                (Answer::Go(leave), None) => match self.attempt(&charges, clock)? {
                    (Ok(granted), slots) => {
                        let hold = had_turn.map(|now| Hold { since, until: now, released: now });
                        return Ok(Admission::new(granted, hold, slots).with(leave));
                    }
                    (Err(Refused::Over(quota, ..)), _) if quota.binds_lanes() => {
                        // A limit of ours is what binds now.
                        self.closures.forget(&lane);
                        Answer::Open
                    }
                    (Err(Refused::Over(..)), _) => {
                        // What binds its caller alone says nothing of the others of the lane.
                        drop(leave);
                        admitted = Some(self.place(&charges, clock).await?);
                        self.closures.ask(&lane, clock.steady())
                    }
                    (Err(refused), _) => return Err(refused.into()),
                },
                // What was admitted is given back first, so that nobody is refused for it meanwhile.
                (Answer::NotBefore(until), given_back) => {
                    drop(given_back);
                    admitted = Some(self.place(&charges.not_before(until), clock).await?);
                    self.closures.ask(&lane, clock.steady())
                }
                (Answer::Busy(mut queued), given_back) => {
                    drop(given_back);
                    let busy = match self.store.is_closed() {
                        false => Refusal::Closed { retry_after: BUSY_RETRY },
                        true => Refusal::Ended,
                    };
                    let by = by.ok_or(busy)?;
                    // They are held like any other, and no more of them than of these.
                    if queued.before() >= charges.queue() || self.held() > charges.max_held.get() as usize {
                        return Err(busy);
                    }
                    match self.closures.wait(&mut queued, by, clock).await {
                        Waited::Told => {}
                        Waited::TooLong => return Err(busy),
                        Waited::Ended => return Err(Refusal::Ended),
                    }
                    let now = clock.steady();
                    had_turn = Some(now);
                    queued.ask(now)
                }
            };
        }
    }

    /// Moves the held calls of a lane whose turn is before `until` behind it, as [`shut`](Self::shut) does.
    #[cfg(test)]
    pub(in crate::limit) fn postpone(&self, lane: &Lane, until: crate::time::Steady, clock: &Clock) {
        self.held.postpone(lane, until, clock);
    }

    /// The API itself turned a call of this lane away, for so long. Until then no call of it goes; then one at a time, and
    /// twice as many after each [success](Admission::succeeded), until a limit binds them. The held calls of the lane
    /// whose turn is before that are moved behind it, in the order of their turns and before any that comes later; those
    /// that would then wait for too long are refused as [`Refusal::Closed`].
    pub fn shut(&self, lane: &Lane, wait: Duration, clock: &Clock) {
        let now = clock.steady();
        let move_held = |until| self.held.postpone(lane, until, clock);
        self.closures.close(lane, now + wait, now, move_held);
    }

    /// Every lane that the API has closed, the one that is for the longest first.
    pub fn closed(&self, clock: &Clock) -> Vec<ClosedLane> {
        self.closures.list(clock.steady())
    }
}
