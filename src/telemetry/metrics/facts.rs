//! What the metrics are told that no outcome says.

use crate::time::Wall;

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new set is in force.
    Loaded,
    /// The new set was wrong; the last good one stays in force.
    Failed,
}

/// What became of an audit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditResult {
    /// It is in the file.
    Written,
    /// Its queue was full, or the process ended before the file could be written.
    Dropped,
}

/// The facts about the policy in force that the metrics show.
#[derive(Debug, Clone, Copy)]
pub struct LoadedPolicy<'a> {
    /// Its version.
    pub version: &'a str,
    /// When it came into force.
    pub at: Wall,
    /// When its device inventory was made; none if it has no inventory.
    pub inventory_at: Option<Wall>,
    /// How many devices the inventory holds.
    pub devices: usize,
}

/// How many tokens are remembered, and how often one was looked for.
#[derive(Debug, Clone, Copy)]
pub struct TokenCachePart {
    /// `good` or `refused`.
    pub name: &'static str,
    /// Tokens.
    pub entries: usize,
    /// What they count for.
    pub bytes: u64,
    /// Lookups that found one, since the process started.
    pub hits: u64,
    /// All other lookups.
    pub misses: u64,
}

/// How a file of the state folder stands.
#[derive(Debug, Clone, Copy)]
pub struct StateNumbers {
    /// Its name.
    pub name: &'static str,
    /// Records written, since the process started.
    pub written: u64,
    /// Records that found no room.
    pub dropped: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Bytes at its end that were given up at the start.
    pub lost_bytes: u64,
}

// === impl ReloadResult ===

impl ReloadResult {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "ok",
            Self::Failed => "failed",
        }
    }
}

// === impl AuditResult ===

impl AuditResult {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
        }
    }
}
