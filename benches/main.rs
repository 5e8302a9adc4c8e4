//! Every benchmark, in one binary: `cargo bench -- limiter` runs those whose names contain the word.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that goes wrong should stop")]

use std::time::Duration;

use criterion::{Criterion, criterion_group};

mod acquire;
mod admit;
mod calls;
mod cedar;
mod crowd;
mod durable;
mod flat;
mod gateway;
mod held;
mod instructions;
mod inventory;
mod limiter;
mod locks;
mod plain;
mod policy;
mod survive;
mod swap;
mod token;
mod window;
mod world;

/// The gateway's own allocator, so that a plain proxy is measured with the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = window::bench, limiter::bench, token::bench, policy::bench, cedar::bench, inventory::bench, survive::bench, admit::bench, gateway::bench
}

fn main() {
    gateway::play_role();
    acquire::play_role();
    crowd::bench();
    durable::bench();
    swap::bench();
    flat::bench();
    instructions::bench();
    locks::bench();
    held::bench();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
