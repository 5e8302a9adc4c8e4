//! The calls that are held: each has its place in the windows already, and waits here for its turn.
//!
//! # What can go wrong, and why it does not
//!
//! - *One that nobody wakes.* Each call sleeps until its own moment, on the clock; nobody has to tell it. A call whose
//!   place is moved is told after that, and a telling that comes before it listens is kept for it.
//! - *A place that stays when its call has gone.* The future of a call owns its seat: dropped, it gives the place back.
//! - *A later arrival that gets between.* Whoever takes a place for later, or moves one, holds the lock of all seats
//!   meanwhile; a call that is admitted at once needs no seat and knows nothing of them. Its order is seats before logs.
//! - *A lock that is held for long.* With 10,000 held calls in one lane, moving them all takes 5 ms (measured by
//!   `cargo bench -- held`), during which calls that have to wait, or have their turn, wait for that too.
//! - *A flood.* Who finds the queue of the fullest limit full is refused before it comes here, by the lock of that key.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::limit::charges::{Charges, Lane};
use crate::limit::decision::Refused;
use crate::limit::sharded::{Granted, Placed, Reserved, ShardedStore};
use crate::limit::store::Hold;
use crate::limit::sync::Mutex;
use crate::time::{Clock, Steady};

/// Every call that waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    /// By the order in which they came.
    seats: BTreeMap<u64, Seat>,
    next: u64,
    /// The last moment at which anyone has a turn, once the process stops.
    ends: Option<Steady>,
}

#[derive(Debug)]
struct Seat {
    lane: Lane,
    moved: Arc<Notify>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Reserved(Reserved),
    /// It was moved behind the last moment that it waits for: this is when its turn would have been.
    TooLate(Steady),
    /// Its turn would have been after the end of the process.
    Ended,
}

/// What one held call has of its seat. Dropped, it leaves it, and the place is given back.
#[derive(Debug)]
struct Ticket<'h> {
    held: &'h Held,
    number: u64,
    moved: Arc<Notify>,
}

/// What becomes of a call that wanted its turn.
enum Turn {
    NotYet(Steady),
    Has(Granted),
    /// As many calls of the limit of this place are on their way as may be.
    Busy(u8),
    TooLate(Steady),
    Ended,
    /// Nobody gave it a seat.
    Gone,
}

// === impl Held ===

impl Held {
    /// Places a call that found no room, if it may be held, and waits for its turn.
    pub(super) async fn acquire<'a>(
        &self,
        store: &ShardedStore,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Result<(Granted, Option<Hold>), Refused<'a>> {
        let since = clock.steady();
        let (ticket, mut due) = {
            let mut seats = self.0.lock();
            if seats.seats.len() >= charges.max_held.get() as usize {
                drop(seats);
                return store.acquire(charges, clock).map(|granted| (granted, None));
            }
            let mut reserved = match store.hold(charges, clock)? {
                Placed::Now(granted) => return Ok((granted, None)),
                Placed::Later(reserved) => reserved,
            };
            let due = Steady::from_millis(reserved.at().millis());
            if seats.ends.is_some_and(|ends| due > ends) {
                reserved.give_back();
                return Err(Refused::Ended);
            }
            (self.take_seat(&mut seats, charges.lane(), reserved), due)
        };
        loop {
            tokio::select! {
                biased;
                () = ticket.moved.notified() => {}
                () = clock.sleep_until(due) => {}
            }
            let busy = |place| charges.quotas().nth(usize::from(place)).map(|quota| Refused::InFlight(quota));
            match ticket.turn(clock) {
                Turn::NotYet(until) => due = until,
                Turn::Has(granted) => {
                    let hold = Hold { since, until: due, released: clock.steady() };
                    return Ok((granted, Some(hold)));
                }
                Turn::Busy(place) => return Err(busy(place).unwrap_or(Refused::NoCell)),
                Turn::TooLate(opens) => return Err(Refused::Closed(opens, clock.steady())),
                Turn::Ended => return Err(Refused::Ended),
                Turn::Gone => return Err(Refused::NoCell),
            }
        }
    }

    /// Moves the calls of a lane whose turn is before `until` behind it, in the order of their turns. One that would
    /// wait for too long then is refused. Before any call of the lane that comes later is placed. O(n log n) of those
    /// that are moved, and O(n) of all that are held.
    pub(super) fn postpone(&self, lane: &Lane, until: Steady, clock: &Clock) {
        let mut seats = self.0.lock();
        let ends = seats.ends;
        let mut moved: Vec<_> =
            seats.seats.values_mut().filter_map(|seat| seat.before(lane, until)).collect();
        moved.sort_by_key(|seat| seat.at());
        // All of them first, so that none is behind a place that another one leaves.
        for seat in &mut moved {
            if let Place::Reserved(reserved) = &mut seat.place {
                reserved.give_back();
            }
        }
        for seat in moved {
            if let Place::Reserved(reserved) = &mut seat.place {
                match reserved.place_again(until, clock) {
                    Err(opens) => seat.place = Place::TooLate(opens),
                    Ok(()) if ends.is_some_and(|ends| Steady::from_millis(reserved.at().millis()) > ends) => {
                        reserved.give_back();
                        seat.place = Place::Ended;
                    }
                    Ok(()) => {}
                }
            }
            seat.moved.notify_one();
        }
    }

    /// Which calls are held, and when each has its turn, in the order in which they came. O(n), with all seats locked.
    pub(super) fn turns(&self) -> Vec<(Lane, Steady)> {
        let seats = self.0.lock();
        let placed = seats.seats.values().filter(|seat| matches!(seat.place, Place::Reserved(_)));
        placed.map(|seat| (seat.lane.clone(), seat.at())).collect()
    }

    /// Refuses every call whose turn is after `ends`, now and from now on; their places are given back.
    pub(super) fn end(&self, ends: Steady) {
        let mut seats = self.0.lock();
        seats.ends = Some(ends);
        for seat in seats.seats.values_mut() {
            if let Place::Reserved(reserved) = &mut seat.place
                && Steady::from_millis(reserved.at().millis()) > ends
            {
                reserved.give_back();
                seat.place = Place::Ended;
                seat.moved.notify_one();
            }
        }
    }

    /// The process does not end after all.
    pub(super) fn go_on(&self) {
        self.0.lock().ends = None;
    }

    /// How many calls are held.
    pub(super) fn count(&self) -> usize {
        self.0.lock().seats.len()
    }

    /// Keeps every call from its seat for as long as the answer lives.
    /// What the call that came last is counted by.
    #[cfg(test)]
    pub(super) fn rules_of_last(&self) -> Vec<super::key::RuleId> {
        match self.0.lock().seats.last_key_value() {
            Some((_, Seat { place: Place::Reserved(reserved), .. })) => reserved.into(),
            _ => Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn locked(&self) -> impl Sized {
        self.0.lock()
    }

    fn take_seat(&self, seats: &mut Seats, lane: Lane, reserved: Reserved) -> Ticket<'_> {
        let (number, moved) = (seats.next, Arc::new(Notify::new()));
        seats.next += 1;
        let seat = Seat { lane, moved: moved.clone(), place: Place::Reserved(reserved) };
        seats.seats.insert(number, seat);
        Ticket { held: self, number, moved }
    }
}

// === impl Seat ===

impl Seat {
    fn at(&self) -> Steady {
        match &self.place {
            Place::Reserved(reserved) => Steady::from_millis(reserved.at().millis()),
            Place::TooLate(_) | Place::Ended => Steady::default(),
        }
    }

    /// The seat, if its call is of this lane and has its turn before `until`.
    fn before(&mut self, lane: &Lane, until: Steady) -> Option<&mut Self> {
        let moves = matches!(self.place, Place::Reserved(_)) && self.at() < until && self.lane == *lane;
        moves.then_some(self)
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    fn turn(&self, clock: &Clock) -> Turn {
        let mut seats = self.held.0.lock();
        let now = clock.steady();
        if let Some(seat) = seats.seats.get(&self.number)
            && matches!(seat.place, Place::Reserved(_))
            && seat.at() > now
        {
            return Turn::NotYet(seat.at());
        }
        match seats.seats.remove(&self.number).map(|seat| seat.place) {
            Some(Place::Reserved(reserved)) => match reserved.take_turn() {
                Ok(granted) => Turn::Has(granted),
                Err(place) => Turn::Busy(place),
            },
            Some(Place::TooLate(opens)) => Turn::TooLate(opens),
            Some(Place::Ended) => Turn::Ended,
            None => Turn::Gone,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let seat = self.held.0.lock().seats.remove(&self.number);
        if let Some(Seat { place: Place::Reserved(mut reserved), .. }) = seat {
            reserved.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::poll_immediate;

    use crate::limit::fixture::{application, charges, clock, limit, quotas};
    use crate::limit::{LimitError, Limiter};

    #[tokio::test]
    async fn who_comes_after_the_process_was_told_to_stop_waits_no_longer_than_it_lives() {
        let text = limit("waits", "\"tenant\"", "\"1 per 10s\"");
        let set = quotas(&format!("{text}when_full = {{ wait = \"50s\", queue = 9 }}\n"));
        let (limiter, (clock, _), caller) = (Limiter::new(), clock(), application(1, 1));
        let of = charges(&set, &caller, "read");
        limiter.acquire(&of, &clock).await.unwrap().forwarded();
        limiter.end(clock.steady() + Duration::from_secs(15));
        let mut in_reach = Box::pin(limiter.acquire(&of, &clock));
        assert!(poll_immediate(&mut in_reach).await.is_none(), "its turn is in 10 s");
        let out_of_reach = poll_immediate(limiter.acquire(&of, &clock)).await.expect("it waits");
        assert_eq!(out_of_reach.map_err(LimitError::from).unwrap_err(), LimitError::Ended);
        assert_eq!(limiter.held(), 1, "it left no place behind");
    }
}
