//! How many connections are open, and whose they are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::workers::Place;
use crate::proxy::Bounds;
use crate::telemetry::metrics::{Metrics, OpenConnection, RefusedConnection};

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    /// Told of each that ends.
    ended: Notify,
    bounds: Bounds,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    /// Those of each address; none is kept at zero.
    addresses: HashMap<IpAddr, u32>,
}

/// One connection's place among them.
pub(super) struct Seat {
    connections: Arc<Connections>,
    /// The party whose connections it is counted among, once that is known.
    party: Option<IpAddr>,
    /// Its place among those of its thread, once it has one. It is given back before the metrics say so.
    place: Option<Place>,
    _counted: OpenConnection,
}

// === impl Connections ===

impl Connections {
    pub(super) fn new(bounds: Bounds, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), ended: Notify::new(), bounds, metrics })
    }

    /// A place for one connection more, whoever it belongs to.
    pub(super) fn take(self: &Arc<Self>) -> Result<Seat, RefusedConnection> {
        if self.open.lock().total >= self.bounds.connections.get() {
            return Err(RefusedConnection::Total);
        }
        Ok(self.take_one_more())
    }

    /// The same, however many there are.
    pub(super) fn take_one_more(self: &Arc<Self>) -> Seat {
        self.open.lock().total += 1;
        Seat { connections: self.clone(), party: None, place: None, _counted: self.metrics.connection() }
    }

    /// Done when none is left: each has ended by itself.
    pub(super) async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Registered before the look, so that one that ends in between is not missed.
            ended.as_mut().enable();
            if self.open.lock().total == 0 {
                return;
            }
            ended.await;
        }
    }
}

// === impl Seat ===

impl Seat {
    /// Has it served by the thread that this is a place of.
    pub(super) fn sit(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Counts it among the connections of an address.
    pub(super) fn belong_to(&mut self, address: IpAddr) -> Result<(), RefusedConnection> {
        let party = one_party(address);
        let mut open = self.connections.open.lock();
        let count = open.addresses.entry(party).or_default();
        if *count >= self.connections.bounds.connections_per_address.get() {
            return Err(RefusedConnection::Address);
        }
        *count += 1;
        self.party = Some(party);
        Ok(())
    }
}

/// What one party may be taken to hold: an IPv4 address, or the 64 bits of an IPv6 network, in which a host has as many
/// addresses as it likes.
fn one_party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(party) = self.party
            && let Entry::Occupied(mut count) = open.addresses.entry(party)
        {
            match *count.get() {
                1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
        drop(open);
        self.connections.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total: u32, address: u32) -> Arc<Connections> {
        let count = |count| std::num::NonZeroU32::new(count).unwrap();
        let bounds = Bounds {
            connections: count(total),
            connections_per_address: count(address),
            ..Bounds::default()
        };
        Connections::new(bounds, Metrics::new())
    }

    #[test]
    fn as_many_connections_are_open_as_may_be_in_all_and_of_an_address() {
        let connections = connections(3, 2);
        let take = |address: &str| {
            let seat = connections.take().and_then(|mut seat| {
                seat.belong_to(address.parse().unwrap())?;
                Ok(seat)
            });
            seat.map_err(RefusedConnection::as_str)
        };
        let first = take("192.0.2.1").unwrap();
        let second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").err(), Some("address"));
        let third = take("2001:db8::1").unwrap();
        assert_eq!(take("192.0.2.2").err(), Some("total"));
        drop((first, second));
        let fourth = take("2001:db8::ffff:2").unwrap();
        assert_eq!(take("2001:db8::3").err(), Some("address"));
        drop((third, fourth, take("2001:db8:0:1::1").unwrap()));
        let open = connections.open.lock();
        assert_eq!((open.total, open.addresses.len()), (0, 0));
    }
}
