//! The door: HTTP in, HTTP out. The only floor that speaks Pingora on the request path.

mod client;
mod exchange;
mod gateway;
mod incoming;
pub mod reply;
mod strict;
mod upstream;

pub use client::{InvalidHops, TrustedHops};
pub use gateway::Gateway;
pub use upstream::{Tls, Upstream};
