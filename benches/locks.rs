//! For how long locks are held when as many calls wait in one lane as may: what it takes to find a place behind them, to
//! refuse one more, to list them, and to move them all. In process, by the clock. `cargo bench -- held`.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tollgate::id::{ApplicationId, TenantId};
use tollgate::limit::{Admission, Charges, Lane, Refusal};
use tollgate::principal::Subject;
use tollgate::time::Clock;

use crate::limiter::World;

/// Calls that wait: as many as may.
const HELD: u32 = 10_000;

/// Of how many calls each time is the mean.
const LAST: u32 = 100;

/// For how long the API turns the lane away: until after the turns that its calls have.
const SHUT: Duration = Duration::from_secs(40);

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Admission, Refusal<'a>>> + 'a>>;

pub(crate) fn bench() {
    if !std::env::args().any(|arg| arg == "held") {
        return;
    }
    let limit = format!(
        "[[limit]]\nname = \"waiting\"\noperations = \"all\"\nper = [\"tenant\", \"application\"]\n\
         windows = [\"{HELD} per 30s\"]\nwhen_full = {{ wait = \"60s\", queue = {HELD} }}\n"
    );
    let world = World::of(&limit, Clock::System);
    let (tenant, application) = (TenantId::from_u128(1), ApplicationId::from_u128(2));
    let subject = Subject { tenant, application, user: None };
    let charges = world.charges(&subject);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut waiting: Vec<Waiting<'_>> = Vec::new();
    let mut call = || match begin(&world, &charges) {
        (waits, Poll::Pending) => waiting.push(waits),
        (_, Poll::Ready(Ok(mut admission))) => admission.forwarded(),
        (_, Poll::Ready(Err(_))) => {}
    };
    (0..HELD * 2 - LAST).for_each(|_| call());
    let placed = mean(&mut call);
    let refused = mean(call);
    assert_eq!(world.limiter.held(), HELD as usize);
    let listed = time(|| assert_eq!(world.limiter.turns().len(), HELD as usize));
    let lane = Lane { operation: world.operation.clone(), tenant, application };
    let moved = time(|| world.limiter.shut(&lane, SHUT, &Clock::System));
    assert!(world.limiter.turns().iter().all(|(_, turn)| turn.since(Clock::System.steady()) > SHUT / 2));
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!(
        "held: with {HELD} calls that wait in one lane, one more: placed {:.3} ms, refused {:.3} ms; all listed {:.2} ms, all moved {:.1} ms",
        millis(placed),
        millis(refused),
        millis(listed),
        millis(moved)
    );
}

fn begin<'a>(
    world: &'a World,
    charges: &'a Charges<'a>,
) -> (Waiting<'a>, Poll<Result<Admission, Refusal<'a>>>) {
    let mut waits: Waiting<'a> = Box::pin(world.limiter.acquire(charges, &world.clock));
    let begun = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    (waits, begun)
}

fn mean(mut work: impl FnMut()) -> Duration {
    time(|| (0..LAST).for_each(|_| work())) / LAST
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Clock::System.steady();
    work();
    Clock::System.steady().since(start)
}
