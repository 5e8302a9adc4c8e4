//! TODO: to be written.
