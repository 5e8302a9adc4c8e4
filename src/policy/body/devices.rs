//! The devices that a body names.

use std::str::FromStr;
use std::sync::Arc;

use super::json;
use super::{BadBody, BodyError};
use crate::id::{DeviceRef, plain_name};

/// The member that names devices: one, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicesMember {
    /// As written, `machineId` or `scannerAgent.machineId`.
    name: Arc<str>,
    /// Its members, from the outermost.
    way: Vec<Box<str>>,
}

/// Text that is not the name of a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a member such as `machineId` or `scannerAgent.machineId`")]
pub(crate) struct InvalidMember {
    text: String,
}

/// The most devices of one call (*Add or remove a tag for multiple machines*): the audit names each of them.
pub(super) const MAX_DEVICES: usize = 500;

// === impl DevicesMember ===

impl DevicesMember {
    /// As it is written.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its members, from the outermost.
    pub(super) fn way(&self) -> &[Box<str>] {
        &self.way
    }

    /// The devices that the body names; that it names none is a mistake, since the call would be held to nothing.
    pub(super) fn check(&self, named: json::Named<'_>) -> Result<Vec<DeviceRef>, BodyError> {
        let name = self.name.clone();
        if let Some(found) = named.case {
            return Err(BodyError::BadBody(BadBody::Case { found, name }));
        }
        if named.odd {
            return Err(BodyError::BadBody(BadBody::Kind {
                name,
                expected: "a device or a list of devices",
            }));
        }
        if named.devices.is_empty() || named.devices.iter().any(|device| plain_name(device).is_empty()) {
            return Err(BodyError::MissingParameter { name });
        }
        if named.devices.len() > MAX_DEVICES {
            return Err(BodyError::BadBody(BadBody::Devices { name }));
        }
        Ok(named.devices.iter().map(|device| DeviceRef::parse(device)).collect())
    }
}

impl FromStr for DevicesMember {
    type Err = InvalidMember;

    fn from_str(text: &str) -> Result<Self, InvalidMember> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-@".contains(&byte))
        };
        if !text.split('.').all(plain) {
            return Err(InvalidMember { text: text.into() });
        }
        Ok(Self { name: text.into(), way: text.split('.').map(Into::into).collect() })
    }
}
