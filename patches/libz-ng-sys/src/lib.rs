//! zlib under the name of zlib-ng: the same C interface, without cmake in the build.
pub use libz_sys::*;
