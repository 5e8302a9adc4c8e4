//! A lane that the API itself has closed, and how it opens again: pure steps, no clock and no lock.
//!
//! ```text
//!            limited             the moment passes              64 successes at once, or a limit of ours is full
//! (open) ───────────▶ Closed ─────────────────────▶ Opening ─────────────────────────────────────────▶ (open)
//!                        ▲            limited          │ success: twice as many at a time
//!                        └─────────────────────────────┘
//! ```

use crate::time::Steady;

/// One closed lane.
#[derive(Debug)]
pub(super) struct Closure {
    phase: Phase,
    /// How often it was closed: what a call that went before the last time comes to says nothing about now.
    times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No call goes before this moment.
    Closed { until: Steady },
    /// At most so many calls at a time; the last of them went then.
    Opening { most: u32, on_their_way: u32, last: Steady },
}

/// What a call of the lane gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may go, and is to say what it comes to.
    Go(Pass),
    /// Not before this moment.
    NotBefore(Steady),
    /// Not before one that is on its way ends.
    Busy,
}

/// The leave of one call, by how often the lane had been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass(u64);

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The API answered it, and not that it was one too many.
    Success,
    /// The API failed, or was never asked.
    Nothing,
}

/// How the lane is after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// There is no more to say of it.
    Open,
    /// So many more calls may go.
    Closed { room: u32 },
}

/// As many calls at a time as make a lane open: the documented limits let 100 through in a minute, and
/// whoever has 64 on their way at once is bounded by these.
const OPEN: u32 = 64;

// === impl Closure ===

impl Closure {
    /// One that opens at this moment.
    pub(super) fn new(until: Steady) -> Self {
        Self { phase: Phase::Closed { until }, times: 0 }
    }

    /// The API turned away another call: closed until this moment, or the later one that was said before.
    pub(super) fn close(&mut self, until: Steady) -> Steady {
        let until = match self.phase {
            Phase::Closed { until: before } => before.max(until),
            Phase::Opening { .. } => until,
        };
        self.phase = Phase::Closed { until };
        self.times += 1;
        until
    }

    /// A call wants to go.
    pub(super) fn ask(&mut self, now: Steady) -> Answer {
        match &mut self.phase {
            Phase::Closed { until } if now < *until => Answer::NotBefore(*until),
            Phase::Closed { .. } => {
                self.phase = Phase::Opening { most: 1, on_their_way: 1, last: now };
                Answer::Go(Pass(self.times))
            }
            Phase::Opening { most, on_their_way, last } if *on_their_way < *most => {
                *on_their_way += 1;
                *last = now;
                Answer::Go(Pass(self.times))
            }
            Phase::Opening { .. } => Answer::Busy,
        }
    }

    /// A call that went has ended.
    pub(super) fn end(&mut self, pass: Pass, end: End) -> Lane {
        match &mut self.phase {
            Phase::Opening { most, on_their_way, .. } if pass.0 == self.times => {
                *on_their_way = on_their_way.saturating_sub(1);
                if end == End::Success {
                    *most = most.saturating_mul(2);
                }
                if *most >= OPEN {
                    Lane::Open
                } else {
                    Lane::Closed { room: most.saturating_sub(*on_their_way) }
                }
            }
            Phase::Opening { .. } | Phase::Closed { .. } => Lane::Closed { room: 0 },
        }
    }

    /// Until when no call goes; none if some may.
    pub(super) fn until(&self, now: Steady) -> Option<Steady> {
        match self.phase {
            Phase::Closed { until } if now < until => Some(until),
            Phase::Closed { .. } | Phase::Opening { .. } => None,
        }
    }

    /// Whether any call has gone since it was closed.
    pub(super) fn is_being_opened(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. })
    }

    /// Whether it opened before this moment, and no call has gone since then or is on its way.
    pub(super) fn is_idle(&self, before: Steady) -> bool {
        match self.phase {
            Phase::Closed { until } => until < before,
            Phase::Opening { on_their_way, last, .. } => on_their_way == 0 && last < before,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Steady {
        Steady::from_millis(seconds * 1_000)
    }

    fn go(closure: &mut Closure, now: Steady) -> Pass {
        match closure.ask(now) {
            Answer::Go(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_closed_lane_lets_one_call_go_when_it_opens_and_twice_as_many_after_each_success() {
        let mut closure = Closure::new(at(60));
        assert_eq!(closure.ask(at(59)), Answer::NotBefore(at(60)));
        let first = go(&mut closure, at(60));
        assert_eq!(closure.ask(at(60)), Answer::Busy);
        assert_eq!(closure.end(first, End::Success), Lane::Closed { room: 2 });
        let two = [(), ()].map(|()| go(&mut closure, at(61)));
        assert_eq!(closure.ask(at(61)), Answer::Busy);
        // A failure of another kind says nothing.
        assert_eq!(closure.end(two[0], End::Nothing), Lane::Closed { room: 1 });
        assert_eq!(closure.end(two[1], End::Success), Lane::Closed { room: 4 });
        let mut successes = 0;
        let lane = loop {
            let pass = go(&mut closure, at(62));
            successes += 1;
            match closure.end(pass, End::Success) {
                Lane::Closed { .. } => {}
                open => break open,
            }
        };
        assert_eq!((lane, successes), (Lane::Open, 4), "8, 16, 32, 64");
    }

    #[test]
    fn a_lane_that_is_being_opened_is_not_idle_between_two_of_its_calls() {
        let mut closure = Closure::new(at(60));
        let first = go(&mut closure, at(61));
        closure.end(first, End::Success);
        assert!(!closure.is_idle(at(61)) && closure.is_idle(at(62)));
        let _second = go(&mut closure, at(70));
        assert!(!closure.is_idle(at(80)));
    }

    #[test]
    fn another_429_closes_it_again_and_what_went_before_that_says_nothing() {
        let mut closure = Closure::new(at(10));
        let before = go(&mut closure, at(10));
        assert_eq!(closure.close(at(30)), at(30));
        assert_eq!(closure.end(before, End::Success), Lane::Closed { room: 0 });
        assert_eq!(closure.ask(at(29)), Answer::NotBefore(at(30)));
        // The later of two moments counts.
        assert_eq!((closure.close(at(20)), closure.ask(at(29))), (at(30), Answer::NotBefore(at(30))));
        let pass = go(&mut closure, at(30));
        assert_eq!(closure.end(before, End::Success), Lane::Closed { room: 0 }, "it has ended already");
        assert_eq!(closure.ask(at(30)), Answer::Busy);
        assert_eq!(closure.end(pass, End::Success), Lane::Closed { room: 2 });
    }

    proptest! {
        #[test]
        fn never_more_are_on_their_way_than_successes_have_made_room_for(
            steps in proptest::collection::vec((0_u8..5, 0_u64..3), 1..200)
        ) {
            let (mut closure, mut now) = (Closure::new(at(5)), 0);
            let (mut passes, mut most, mut until) = (Vec::new(), 1_u32, at(5));
            for (step, seconds) in steps {
                now += seconds;
                match step {
                    0 | 1 => match closure.ask(at(now)) {
                        Answer::Go(pass) => {
                            prop_assert!(at(now) >= until);
                            passes.push(pass);
                            prop_assert!(passes.len() <= most as usize);
                        }
                        Answer::NotBefore(moment) => prop_assert!(moment == until && at(now) < until),
                        Answer::Busy => prop_assert_eq!(passes.len(), most as usize),
                    },
                    2 | 3 => {
                        let Some(pass) = passes.pop() else { continue };
                        let end = if step == 2 { End::Success } else { End::Nothing };
                        most *= if step == 2 { 2 } else { 1 };
                        let room = most.saturating_sub(passes.len() as u32);
                        let lane = if most >= OPEN { Lane::Open } else { Lane::Closed { room } };
                        prop_assert_eq!(closure.end(pass, end), lane);
                        if lane == Lane::Open {
                            (closure, most, until) = (Closure::new(at(now + 2)), 1, at(now + 2));
                            passes.clear();
                        }
                    }
                    _ => {
                        let moment = at(now + 3);
                        let before = if at(now) < until { until } else { at(0) };
                        let closed = closure.close(moment);
                        // Nobody asked since it might have opened: it is as closed as it was.
                        prop_assert!(closed == moment.max(before));
                        (most, until) = (1, closed);
                        passes.clear();
                    }
                }
            }
        }
    }
}
