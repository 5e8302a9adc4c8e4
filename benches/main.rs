//! Every benchmark, in one binary: `cargo bench -- limiter` runs those whose names contain the word.

#![expect(clippy::unwrap_used, reason = "a benchmark that goes wrong should stop")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod limiter;
mod window;

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = window::bench, limiter::bench
}
criterion_main!(benches);
