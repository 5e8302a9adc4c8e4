//! The tests that see Tollgate from outside: one binary, one module a subject.
//!
//! A test belongs here if it needs more than one room of the house: real sockets, the whole line of a request, the
//! files of a policy set, or the source itself. A test of one file stands in that file. Each is named as the sentence
//! that it proves. None sleeps to wait for a window or a reload: time is a manual clock's, and what must come is
//! waited for.
//!
//! - `bodies`: what is read, what streams, and what a refused body does to its connection.
//! - `catalogue`: the shipped operations are the documented ones, and their devices are found where the API has them.
//! - `check`: what `tollgate check` says of a policy set.
//! - `errors`: every reason's answer.
//! - `floors`: which file may use which.
//! - `routes`: which request line asks for which operation, and which for none.
//! - `support`: what tests share, [`support::raw`] a client that sees every byte, [`support::upstream`] an API that
//!   records every byte.
//! - `upstream`: what the API gets to see, and what of its answers comes back.
#![cfg(test)]

mod bodies;
mod catalogue;
mod check;
mod errors;
mod floors;
mod line;
mod readme;
mod routes;
mod support;
mod upstream;
