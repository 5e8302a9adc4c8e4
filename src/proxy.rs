//! The door: HTTP in, HTTP out. The only floor that speaks Pingora on the request path.

mod answer;
mod bounds;
mod circuit;
mod client;
mod credit;
mod deciding;
mod door;
mod exchange;
mod forwarded;
mod gateway;
mod http10;
mod incoming;
mod limited;
mod links;
mod load;
mod pages;
pub mod reply;
mod started;
mod statuses;
mod strict;
mod succession;
mod upload;
mod upstream;
mod writing;

pub use bounds::Bounds;
pub use client::Socket;
pub use door::Door;
pub use exchange::Books;
pub use forwarded::{InvalidHops, TrustedHops};
pub use gateway::Gateway;
pub use incoming::check_length;
pub use links::PublicUrl;
pub use load::Load;
pub use strict::check_head;
pub use succession::Succession;
pub use upstream::{Place, Timeouts, Tls, Unresolved, Upstream};
