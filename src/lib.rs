//! Tollgate stands in front of the Microsoft Defender for Endpoint API and decides, for each call, whether it may pass.
//!
//! # The life of a request: one straight line
//!
//! ```text
//! client ─▶ door ─▶ route ─▶ authenticate ─▶ permit ─▶ read ─▶ reach ─▶ acquire ─▶ upstream API
//!                    404      401 · 400       403       400…    403 · 404  429 · 503
//! ```
//!
//! The line is one function, [`admit::admit`]. The cheap checks come first: nothing is verified for a path that does
//! not exist, no body is read for a stranger, and a call that any check refuses is charged to nothing. Only `admit`
//! makes a [`Permit`](admit::Permit), and forwarding needs one.
//!
//! # The floor plan
//!
//! A floor knows only the floors below it; the rooms of floor 2 do not know each other; the gallery watches and never
//! decides. `tests/floors.rs` reads the `use crate::` lines and fails on any other arrow.
//!
//! ```text
//! 5  main · cli · sandbox · server · settings     builds everything, then leaves
//! 4  proxy · admin                                HTTP in, HTTP out; Pingora lives in proxy
//! 3  reload · admit · snapshot · denial           the line
//! 2  token · policy · limit · actions             the rooms
//! 1  outcome · principal · id · source · time     the words that everybody uses
//!    journal                                      the files that outlive the process
//! -  telemetry                                    the gallery: metrics and audit
//! ```

pub mod actions;
pub mod admin;
pub mod admit;
pub mod denial;
pub mod id;
pub mod journal;
pub mod limit;
pub mod outcome;
pub mod policy;
pub mod principal;
pub mod proxy;
pub mod reload;
pub mod sandbox;
pub mod server;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod telemetry;
pub mod time;
pub mod token;

pub mod cli;
