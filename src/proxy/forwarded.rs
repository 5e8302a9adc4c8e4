//! Where a call comes from, also behind proxies that say so.
//!
//! A proxy that forwards a call adds the address that it saw to the end of `X-Forwarded-For`. What stands before that
//! was added by whoever is further away, at last by the caller itself, which can write anything. So the number of
//! proxies that are ours decides: with *n* of them, the *n*-th address from the right was written by the outermost of
//! ours, and is the caller's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;

/// How many proxies between the callers and us add to `X-Forwarded-For`. With none, the header is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrustedHops(u8);

/// Text that is not such a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number of proxies from 0 to {MAX_HOPS}")]
pub struct InvalidHops(String);

/// More proxies in a row than anyone has; a larger number is an address or a port.
const MAX_HOPS: u8 = 16;

/// De facto; RFC 7239 (`Forwarded`) is what it should have become.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of whoever calls: that of the connection's other end, or the one that the outermost trusted proxy saw.
/// If the header does not tell, for it has fewer entries or something else in the place, it is the connection's.
pub(super) fn address(headers: &HeaderMap, peer: Option<IpAddr>, hops: TrustedHops) -> Option<IpAddr> {
    let Some(behind) = usize::from(hops.0).checked_sub(1) else {
        return peer.map(|peer| peer.to_canonical());
    };
    // Several headers of the name are one list, in their order (RFC 9110, section 5.3).
    let entries = headers
        .get_all(FORWARDED_FOR)
        .into_iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    let entry = { entries }.nth(behind).and_then(|entry| std::str::from_utf8(entry).ok());
    entry.and_then(|entry| parse(entry.trim())).or(peer).map(|address| address.to_canonical())
}

/// An address, with a port as some proxies add it, or without.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip()))
}

// === impl TrustedHops ===

impl FromStr for TrustedHops {
    type Err = InvalidHops;

    fn from_str(text: &str) -> Result<Self, InvalidHops> {
        let hops = text.parse().ok().filter(|hops| *hops <= MAX_HOPS);
        hops.map(Self).ok_or_else(|| InvalidHops(text.chars().take(40).collect()))
    }
}

impl fmt::Display for TrustedHops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn seen(hops: u8, headers: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        address(&map, PEER.parse().ok(), TrustedHops(hops)).unwrap().to_string()
    }

    #[test]
    fn the_header_is_not_looked_at_unless_a_proxy_is_trusted() {
        assert_eq!(seen(0, &["192.0.2.1"]), PEER);
    }

    #[test]
    fn the_address_is_the_one_that_the_outermost_trusted_proxy_saw() {
        let said_by_the_caller = "1.1.1.1, 192.0.2.1, 198.51.100.7";
        for (hops, address) in [(1, "198.51.100.7"), (2, "192.0.2.1"), (3, "1.1.1.1")] {
            assert_eq!(seen(hops, &[said_by_the_caller]), address);
        }
        // Several headers are one list.
        assert_eq!(seen(1, &["1.1.1.1", "192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(2, &["1.1.1.1", "192.0.2.1,198.51.100.7"]), "192.0.2.1");
        assert_eq!(seen(3, &["1.1.1.1", "192.0.2.1,198.51.100.7"]), "1.1.1.1");
    }

    #[test]
    fn an_address_is_read_with_its_port_and_in_every_form() {
        for (entry, address) in [
            (" 192.0.2.1 ", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(seen(1, &[entry]), address, "{entry}");
        }
    }

    #[test]
    fn where_the_header_does_not_tell_it_is_the_connections_address() {
        for header in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1.5",
            "192.0.2.1,",
            "192.0.2.1, \u{e4}",
            "[::1",
            "for=1.1.1.1",
        ] {
            assert_eq!(seen(1, &[header]), PEER, "{header}");
        }
        assert_eq!(seen(1, &[]), PEER);
        assert_eq!(seen(2, &["192.0.2.1"]), PEER, "the caller reached the inner proxy without the outer");
    }

    #[test]
    fn a_number_of_proxies_is_small() {
        assert_eq!("2".parse(), Ok(TrustedHops(2)));
        for text in ["", "-1", "17", "300", "many"] {
            assert!(text.parse::<TrustedHops>().unwrap_err().to_string().contains(text), "{text}");
        }
    }
}
