//! Limits of a call that never have room for it.

use std::time::Duration;

use crate::limit::charges::{Charges, Places};
use crate::limit::decision::Refused;
use crate::limit::quota::Effect;
use crate::limit::window::Full;
use crate::time::Clock;

/// The limits that have nothing for this caller: no part is its own, no rest and nothing lent. If one is enforced, the
/// call is told to come again in a window of it, since nothing better can be said; the others are overrun.
pub(super) fn shut_out<'a>(charges: &Charges<'a>, clock: &Clock) -> Result<Places, Refused<'a>> {
    let mut overrun = Places::default();
    for (quota, place) in charges.shut_out() {
        if quota.effect == Effect::Enforced {
            // A limit without any bound has no parts.
            let (rate, now) = (quota.longest_rate().ok_or(Refused::NoCell)?, clock.steady());
            let opens = now + Duration::from_millis(rate.window.millis());
            return Err(Refused::Over(quota, Full { rate, opens }, now));
        }
        overrun = overrun.with(place);
    }
    Ok(overrun)
}
