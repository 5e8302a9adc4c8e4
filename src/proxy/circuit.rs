//! Leaves an upstream alone that keeps failing: its callers are answered at once, and now and then one of them tries it.
//!
//! A probe may be a large upload over a slow line, which says nothing of the upstream for minutes: after a pause the next
//! call tries it too, whatever became of the one before.
//!
//! What can go wrong: a call that began before the circuit opened may still end after it. Its failure changes nothing
//! then, and its answer closes the circuit, since an upstream that answers is there.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Steady;

/// Failures in a row, with no answer to anyone between them: one may be a call that was too large, ten are the upstream.
const FAILURES: u32 = 10;

/// How long it is left alone: a front end that is restarted or moved is back within a few such pauses.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether an upstream is asked.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every call passes; so many have failed since the last answer.
    Closed { failures: u32 },
    /// None passes before this; the first after it is the probe.
    Open { until: Steady },
    /// A probe is under way; the first call after this is the next.
    Probing { until: Steady },
}

/// One call's way through: it says how the call ended, or was never made.
#[derive(Debug)]
pub(super) struct Passage {
    circuit: Arc<Circuit>,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Call,
    /// With the moment after which the next may be sent, which no other probe has.
    Probe {
        until: Steady,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Circuit {
    /// Lets a call through.
    ///
    /// # Errors
    /// How long the upstream is still left alone.
    pub(super) fn pass(self: &Arc<Self>, now: Steady) -> Result<Passage, Duration> {
        let mut state = self.0.lock();
        let role = match *state {
            State::Closed { .. } => Role::Call,
            State::Open { until } | State::Probing { until } if until <= now => {
                let until = now + PAUSE;
                *state = State::Probing { until };
                Role::Probe { until }
            }
            State::Open { until } => return Err(until.since(now)),
            // If it fails, as much is still to come.
            State::Probing { .. } => return Err(PAUSE),
        };
        Ok(Passage { circuit: self.clone(), role })
    }
}

impl Passage {
    /// The upstream answered, whatever it said.
    pub(super) fn answered(self) {
        let mut state = self.circuit.0.lock();
        if !matches!(*state, State::Closed { .. }) {
            tracing::info!("the upstream answers again");
        }
        *state = State::Closed { failures: 0 };
    }

    /// It could not be reached, broke off, or did not answer in time.
    pub(super) fn failed(self, now: Steady) {
        let mut state = self.circuit.0.lock();
        *state = match (*state, self.role) {
            (State::Closed { failures }, _) if failures + 1 < FAILURES => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, _) => {
                tracing::warn!("the upstream failed {FAILURES} times in a row and is left alone");
                State::Open { until: now + PAUSE }
            }
            (State::Probing { until }, Role::Probe { until: own }) if until == own => {
                State::Open { until: now + PAUSE }
            }
            (other, _) => other,
        };
    }
}

impl Drop for Passage {
    /// A probe that nobody made leaves its place to the next.
    fn drop(&mut self) {
        let mut state = self.circuit.0.lock();
        if let Role::Probe { until } = self.role
            && *state == (State::Probing { until })
        {
            *state = State::Open { until: Steady::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Steady = Steady::from_nanos(1_000_000_000);

    /// A circuit that has just opened.
    fn open() -> Arc<Circuit> {
        let circuit = Arc::<Circuit>::default();
        (0..FAILURES).for_each(|_| circuit.pass(START).unwrap().failed(START));
        circuit
    }

    #[test]
    fn it_opens_after_ten_failures_with_no_answer_between_them() {
        let circuit = Arc::<Circuit>::default();
        for _ in 0..3 {
            (1..FAILURES).for_each(|_| circuit.pass(START).unwrap().failed(START));
            circuit.pass(START).unwrap().answered();
        }
        // A call that was never made says nothing.
        drop(circuit.pass(START).unwrap());
        (0..FAILURES).for_each(|_| circuit.pass(START).unwrap().failed(START));
        assert_eq!(circuit.pass(START).unwrap_err(), PAUSE);
        assert_eq!(circuit.pass(START + Duration::from_secs(4)).unwrap_err(), Duration::from_secs(1));
    }

    #[test]
    fn one_call_at_a_time_tries_it_and_its_answer_closes_it() {
        let circuit = open();
        let probe = circuit.pass(START + PAUSE).unwrap();
        assert_eq!(circuit.pass(START + PAUSE).unwrap_err(), PAUSE);
        probe.failed(START + PAUSE);
        assert_eq!(circuit.pass(START + PAUSE).unwrap_err(), PAUSE);
        drop(circuit.pass(START + PAUSE * 2).unwrap());
        let probe = circuit.pass(START + PAUSE * 2).unwrap();
        probe.answered();
        let calls = [circuit.pass(START).unwrap(), circuit.pass(START).unwrap()];
        drop(calls);
    }

    #[test]
    fn a_probe_that_lasts_keeps_nobody_out_for_longer_than_a_pause() {
        let circuit = open();
        let slow = circuit.pass(START + PAUSE).unwrap();
        assert_eq!(circuit.pass(START + (PAUSE * 2 - Duration::from_secs(1))).unwrap_err(), PAUSE);
        let next = circuit.pass(START + PAUSE * 2).unwrap();
        assert_eq!(circuit.pass(START + PAUSE * 2).unwrap_err(), PAUSE);
        // What becomes of the first says nothing of the second, and frees nothing.
        slow.failed(START + PAUSE * 2);
        assert_eq!(circuit.pass(START + PAUSE * 2).unwrap_err(), PAUSE);
        next.failed(START + PAUSE * 2);
        let slow = circuit.pass(START + PAUSE * 3).unwrap();
        let next = circuit.pass(START + PAUSE * 4).unwrap();
        drop(slow);
        assert_eq!(circuit.pass(START + PAUSE * 4).unwrap_err(), PAUSE);
        next.answered();
        circuit.pass(START).unwrap().answered();
    }

    #[test]
    fn what_began_before_it_opened_cannot_prolong_it_but_may_close_it() {
        let circuit = Arc::<Circuit>::default();
        let (late, later) = (circuit.pass(START).unwrap(), circuit.pass(START).unwrap());
        (0..FAILURES).for_each(|_| circuit.pass(START).unwrap().failed(START));
        late.failed(START + Duration::from_secs(4));
        assert_eq!(circuit.pass(START).unwrap_err(), PAUSE);
        let probe = circuit.pass(START + PAUSE).unwrap();
        later.answered();
        drop(probe);
        circuit.pass(START).unwrap().answered();
    }
}
