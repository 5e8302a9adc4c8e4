//! What is written of actions under way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ActionId;
use crate::limit::open::key::OpenKey;
use crate::time::Wall;

/// What happened to an action. Reading one twice, in the order in which they were written, changes nothing.
#[derive(Debug)]
pub(super) enum Record {
    Opened(Opened),
    Closed(ActionId),
}

/// An action that counts in a key.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) action: ActionId,
    pub(super) key: OpenKey,
    /// When it lapses.
    until: Wall,
}

/// As it lies in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Opened {
        action: String,
        key: String,
        /// In RFC 3339.
        until: String,
    },
    Closed {
        action: String,
    },
}

/// 30 days: no action is counted for longer, whatever the calendar says.
pub(in crate::limit) const MAX_OPEN_FOR: Duration = Duration::from_secs(30 * 86_400);

// === impl Record ===

impl Record {
    pub(super) fn opened(action: &ActionId, key: &OpenKey, until: Wall) -> Self {
        Self::Opened(Opened { action: action.clone(), key: key.clone(), until })
    }

    pub(super) fn closed(action: &ActionId) -> Self {
        Self::Closed(action.clone())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let written = match self {
            Self::Opened(Opened { action, key, until }) => Written::Opened {
                action: action.to_string(),
                key: key.as_str().to_owned(),
                until: until.to_string(),
            },
            Self::Closed(action) => Written::Closed { action: action.to_string() },
        };
        // Texts can always be written.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(bytes).ok()? {
            Written::Opened { action, key, until } => Self::Opened(Opened {
                action: ActionId::parse(&action)?,
                key: OpenKey::read(&key)?,
                until: until.parse().ok()?,
            }),
            Written::Closed { action } => Self::Closed(ActionId::parse(&action)?),
        })
    }
}

// === impl Opened ===

impl Opened {
    /// How long it still counts.
    pub(super) fn left(&self, now: Wall) -> Duration {
        self.until.since(now).min(MAX_OPEN_FOR)
    }
}
