//! Every lock and counter that the limiter shares between threads comes from here, so that a model checker can put
//! its own in their place and run the same acquire, sweep and refund.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use parking_lot::{Mutex, MutexGuard};
/// Without the count of weak owners that the standard library's has: eight bytes less for each key.
pub(crate) use triomphe::Arc;
