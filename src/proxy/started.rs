//! What the API's answer to a call that starts an action says of it.

use super::statuses::is_final;
use crate::id::{ActionId, DeviceRef};

/// A machine action, as far as it is read.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MachineAction {
    id: String,
    machine_id: Option<String>,
    status: Option<String>,
}

/// An action that the API has started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: ActionId,
    /// The device that it was started on.
    pub(super) device: DeviceRef,
    pub(super) stage: Stage,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    UnderWay,
    /// Nothing follows.
    Ended,
}

/// The action that was started on the device that is `named` by the call; none if the answer is no action.
pub(super) fn started(answer: &[u8], named: &DeviceRef) -> Option<Started> {
    let MachineAction { id, machine_id, status } = serde_json::from_slice(answer).ok()?;
    // A name may fit several devices; the API says which of them it took.
    let taken = machine_id.and_then(|id| id.parse().ok()).map(DeviceRef::Id);
    let ended = status.is_some_and(|status| is_final(&status));
    Some(Started {
        id: ActionId::parse(&id)?,
        device: taken.unwrap_or_else(|| named.clone()),
        stage: if ended { Stage::Ended } else { Stage::UnderWay },
    })
}
