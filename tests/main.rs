//! The tests that see Tollgate from outside: one binary, one module a subject.
//!
//! A test belongs here if it needs more than one room of the house: real sockets, the whole line of a request, the
//! files of a policy set, or the source itself. A test of one file stands in that file. Each is named as the sentence
//! that it proves. None sleeps to wait for a window or a reload: time is a manual clock's, and what must come is
//! waited for.
//!
//! - `admin`: what an operator sees.
//! - `audit`: what the trail says, and when.
//! - `bodies`: what is read, what streams, and what a refused body does to its connection.
//! - `catalogue`: the shipped operations are the documented ones, and their devices are found where the API has them.
//! - `cedar`: decisions beside those that another engine makes of the same documents.
//! - `check`: what `tollgate check` says of a policy set.
//! - `commands`: the binary: what it prints, how it starts, stops and refuses to; TLS.
//! - `door`: what slow, greedy and careless clients can do to others.
//! - `errors`: every reason's answer.
//! - `line`: one call through every check.
//! - `limits`: what a limit may say beside its windows.
//! - `held`: callers who wait for their turn.
//! - `logins`: how often an address may fail to say who it is.
//! - `readme`: the README's tables are the code's.
//! - `external`: what only another program can judge; with `TOLLGATE_EXTERNAL=1` alone.
//! - `floors`: which file may use which.
//! - `permits`: who may do what to which device.
//! - `reload`: a policy that changes under load, whole or not at all.
//! - `routes`: which request line asks for which operation, and which for none.
//! - `sandbox`: the stand-ins, and that nothing shipped trusts them.
//! - `shares`: what a limit promises to some, until when, and the actions that are under way.
//! - `soak`: many calls, each answered as the line alone decides it, in memory that stays flat.
//! - `tokens`: who calls, and keys that rotate.
//! - `support`: what tests share, [`support::raw`] a client that sees every byte, [`support::upstream`] an API that
//!   records every byte.
//! - `upstream`: what the API gets to see, and what of its answers comes back.
//! - `windows`: limits are exact, whoever calls and however.
#![cfg(test)]

mod admin;
mod audit;
mod bodies;
mod catalogue;
mod cedar;
mod check;
mod commands;
mod door;
mod errors;
mod external;
mod floors;
mod held;
mod limits;
mod line;
mod logins;
mod permits;
mod readme;
mod reload;
mod routes;
mod sandbox;
mod shares;
mod soak;
mod support;
mod tokens;
mod upstream;
mod windows;
