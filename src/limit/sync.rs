//! Every lock and counter that the limiter shares between threads comes from here, so that a model checker can put
//! its own in their place and run the same acquire, sweep and refund.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) use parking_lot::{Mutex, MutexGuard};
