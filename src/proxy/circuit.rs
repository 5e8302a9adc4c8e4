//! Leaves an upstream alone that keeps failing: its callers are answered at once, and one of them at a time tries it.
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
    /// The probe is under way.
    Probing,
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
    Probe,
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
            State::Open { until } if until <= now => {
                *state = State::Probing;
                Role::Probe
            }
            State::Open { until } => return Err(until.since(now)),
            // If it fails, as much is still to come.
            State::Probing => return Err(PAUSE),
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
            (State::Probing, Role::Probe) => State::Open { until: now + PAUSE },
            (other, _) => other,
        };
    }
}

impl Drop for Passage {
    /// A probe that nobody made leaves its place to the next.
    fn drop(&mut self) {
        let mut state = self.circuit.0.lock();
        if self.role == Role::Probe && *state == State::Probing {
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
