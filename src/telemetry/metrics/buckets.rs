//! The upper bounds of the histograms' buckets, in seconds.

/// 5 µs, a refusal by path, to 1 s, a token whose keys had to be fetched first.
pub(super) const ADMISSION_SECONDS: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];

/// 1 ms, a stand-in on the same machine, to 60 s, more than the API's own time limit.
pub(super) const UPSTREAM_SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// 1 ms, the grain of windows, to 60 s, the longest wait that a limit may have.
pub(super) const HELD_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
