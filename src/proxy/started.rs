//! What the API's answer to a call that starts an action says of it.

use crate::id::{ActionId, DeviceRef};

/// A machine action, as far as it is read.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MachineAction {
    id: String,
    machine_id: Option<String>,
}

/// The action that was started, and the device that it was started on, `named` by the call; none if the answer is no
/// action.
pub(super) fn started(answer: &[u8], named: &DeviceRef) -> Option<(ActionId, DeviceRef)> {
    let MachineAction { id, machine_id } = serde_json::from_slice(answer).ok()?;
    // A name may fit several devices; the API says which of them it took.
    let taken = machine_id.and_then(|id| id.parse().ok()).map(DeviceRef::Id);
    Some((ActionId::parse(&id)?, taken.unwrap_or_else(|| named.clone())))
}
