//! What actions under way are counted by.

use std::fmt::Write;
use std::sync::Arc;

use crate::id::{DeviceGroupId, DeviceId, LimitName, OperationId};
use crate::limit::key::{Dimension, Per};
use crate::principal::{Scope, Subject};

/// One instance of a limit on actions under way, as text: the limit's name and each id that it counts by, the only one
/// that may hold any character last. It is the same in every process, so that it can be written to a file; there are
/// few such calls, so that it may be made for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::limit) struct OpenKey(Arc<str>);

// === impl OpenKey ===

impl OpenKey {
    /// That of a call; none if the limit counts by a user, and the call has none.
    pub(in crate::limit) fn of(
        name: &LimitName,
        per: Per,
        operation: Option<&OperationId>,
        subject: &Subject,
        scope: &Scope,
    ) -> Option<Self> {
        let mut text = name.as_str().to_owned();
        let device = scope.devices.first();
        for dimension in Dimension::ALL.into_iter().filter(|dimension| per.has(*dimension)) {
            let word = dimension.as_str();
            // Text takes whatever is written to it.
            let _ = match dimension {
                Dimension::Tenant => write!(text, " {word}={}", subject.tenant),
                Dimension::Application => write!(text, " {word}={}", subject.application),
                Dimension::User => write!(text, " {word}={}", subject.user?),
                Dimension::Operation => write!(text, " {word}={}", operation.map_or("", OperationId::as_str)),
                Dimension::Device => {
                    let id = device.and_then(|device| device.id).as_ref().map(DeviceId::to_string);
                    write!(text, " {word}={}", id.unwrap_or_default())
                }
                Dimension::DeviceGroup => {
                    let group = device.and_then(|device| device.group.as_ref());
                    write!(text, " {word}={}", group.map_or("", DeviceGroupId::as_str))
                }
                Dimension::Address => Ok(()),
            };
        }
        Some(Self(text.into()))
    }

    /// As it was [printed](Self::as_str); none if it names no limit.
    pub(super) fn read(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.starts_with(' ')).then(|| Self(text.into()))
    }

    pub(in crate::limit) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the limit: it holds no space.
    pub(super) fn limit(&self) -> &str {
        self.0.split_once(' ').map_or(&*self.0, |(limit, _)| limit)
    }
}
