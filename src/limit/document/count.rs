//! How many keys a call may need.

use std::sync::Arc;

use super::FILE;
use crate::id::OperationId;
use crate::limit::quota::{MAX_CHARGES, Quota};
use crate::source::Problems;

/// A call holds the locks of all keys that it may be charged to, those of the parts that it may go to included.
pub(super) fn count_keys(operation: &OperationId, quotas: &[Arc<Quota>], problems: &mut Problems) {
    let count: usize = quotas.iter().map(|quota| 1 + quota.parts.len()).sum();
    if count <= MAX_CHARGES {
        return;
    }
    let each = quotas.iter().map(|quota| match quota.parts.len() {
        0 => format!("`{}`", quota.name),
        1 => format!("`{}` with 1 part", quota.name),
        parts => format!("`{}` with {parts} parts", quota.name),
    });
    let names = each.collect::<Vec<_>>().join(", ");
    let of = if count == quotas.len() { "limits" } else { "limits and parts" };
    let message = format!("`{operation}` is under {count} {of}, at most {MAX_CHARGES} may be: {names}");
    problems.file(FILE, message);
}
