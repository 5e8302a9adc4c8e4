//! The stand-ins: what Defender's API and Entra's issuer do, as far as their clients can see it, on this machine alone.
//!
//! `tollgate sandbox` and the tests put the gateway between them. Nothing here takes part in a decision.

pub mod api;
pub mod issuer;
pub mod listen;
pub mod world;
