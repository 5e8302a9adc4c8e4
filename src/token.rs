//! The token room: who is calling, proven by a token that an issuer of `issuers.toml` signed.
//!
//! A request's [`BearerToken`] goes in, a [`Principal`](crate::principal::Principal) comes out, or a [`TokenError`]
//! that says what is wrong without repeating the token. The order of the checks is part of the promise (RFC 8725,
//! "JSON Web Token Best Current Practices", is the checklist):
//!
//! 1. *Form*: at most 8 KiB, three parts, each base64url in its only spelling; header and claims are JSON objects
//!    without a duplicate member. The header names a signature algorithm and asks for nothing that we would have to
//!    understand.
//! 2. *Issuer*: `iss` and `tid` together name one entry of the policy, to the letter. No entry is ever tried. Of the two
//!    issuers of a tenant of Entra, `ver` says which one `iss` must be.
//! 3. *Key*: the one that `kid` names among the keys this issuer published, and only if it is this issuer's and for the
//!    algorithm that the header names. For a key that is not held, the request waits once, and briefly.
//! 4. *Signature*, by the algorithm that belongs to the key.
//! 5. *Verdicts*: `exp`, `nbf`, `aud`. Only the holder of a properly signed token is told that it has expired.
//! 6. *Kind*: an application's token (`roles`, no `scp`) or a user's (`scp`), never both and never neither.
//!
//! A token that passed is kept until it expires or its issuer's keys or rules change, and passes again without all that.
//!
//! Keys come from a file of the policy set or by OpenID Connect discovery ([`KeyRefresher`]). Those of each issuer
//! are a value of their own that is swapped as a whole; a reload that leaves the issuer as it was keeps them. Bad answers
//! of an issuer change nothing, and the last good keys are used for a day while it is away.

mod algorithm;
mod bearer;
mod cache;
mod claims;
mod cloud;
#[cfg(test)]
mod differential;
mod discovery;
mod error;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod fuzz;
mod issuer;
mod json;
mod jws;
mod keys;
mod refresh;
#[cfg(test)]
mod rfc8725;
mod ring;
mod route;
#[cfg(test)]
mod site;
mod template;
mod verifier;

pub use bearer::{BearerError, BearerToken};
pub use cache::CacheState;
pub use cloud::{TokenSource, clouds, token_source};
pub use error::{Flaw, TokenError};
pub(crate) use issuer::schema;
pub use refresh::{KeyRefresher, refresh_now};
pub use ring::{Fetches, IssuerState};
pub use route::{InvalidRehearsalKeys, RehearsalIssuer};
pub use verifier::Verifier;
