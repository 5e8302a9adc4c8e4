//! The tests that see Tollgate from outside: one binary, one module a subject.
//!
//! A test belongs here if it needs more than one room of the house: real sockets, the whole line of a request, the
//! files of a policy set, or the source itself. A test of one file stands in that file. Each is named as the sentence
//! that it proves. None sleeps to wait for a window or a reload: time is a manual clock's, and what must come is
//! waited for.
//!
//! - `floors`: which file may use which.
//! - `tokens`: who calls, and keys that rotate.
//! - `support`: what tests share, [`support::raw`] a client that sees every byte, [`support::upstream`] an API that
//!   records every byte.
#![cfg(test)]

mod floors;
mod line;
mod readme;
mod support;
mod tokens;
