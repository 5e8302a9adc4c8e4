//! The sandbox's tenant: its people, its devices, the policy that binds them, and the calls to paste.
//!
//! Every caller and every device is there for one printed call, so that each call gets its answer whatever was
//! called before.

mod calls;
mod devices;
mod overlay;
mod people;

pub use crate::sandbox::world::calls::{Call, calls};
pub use crate::sandbox::world::devices::{SandboxDevice, api_settings, seeded_actions};
pub use crate::sandbox::world::overlay::overlay;
pub use crate::sandbox::world::people::{PLAYBOOKS, PLAYBOOKS_SECRET, TENANT, Tokens, Who, registrations};

#[cfg(test)]
mod tests;
