//! The sandbox's devices, and what has been collected from them.

use std::time::Duration;

use crate::id::{ActionId, DeviceId, DeviceRef, EntraDeviceId};
use crate::sandbox::api::{ApiDevice, ApiSettings, Collections, RbacGroup, SeededAction};

/// A device of the sandbox, as the service, the inventory and the printed calls know it.
#[derive(Debug, Clone, Copy)]
pub struct SandboxDevice {
    /// Its id in Defender: 40 hexadecimal digits.
    pub id: &'static str,
    /// The first label of its DNS name.
    pub name: &'static str,
    /// `osPlatform`.
    pub os_platform: &'static str,
    /// Its tags.
    pub tags: &'static [&'static str],
    group: Group,
    collections: Collections,
}

/// The device groups, as the rules of `device-groups.toml` put the devices into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Executives,
    Servers,
    Workstations,
    Ungrouped,
}

impl SandboxDevice {
    /// Collections succeed at once, so one can be started again and again.
    pub(super) const IDLE: Self = workstation("00d57148693e15d09719a28eaddaa8babad4771e", "ws-0101")
        .collecting(Collections::Last(Duration::ZERO));
    /// A collection is always running.
    pub(super) const BUSY: Self =
        workstation("2222173cb69d2f00f82585213b50b9307d237950", "ws-0102").collecting(Collections::NeverEnd);
    pub(super) const WITHOUT_COMMENT: Self =
        workstation("02a64c9f58dbd1ee866bbfb1bc9f8ca4674c98d2", "ws-0103");
    pub(super) const WITHOUT_TOKEN: Self = workstation("5655f25c29ee3a2dbf5a24840c40171518cb6856", "ws-0104");
    pub(super) const WITHOUT_PERMISSION: Self =
        workstation("7701ba3ff3d3b43cf5ab32020cd1180128cb175e", "ws-0105");
    pub(super) const WITHOUT_ROLE: Self = workstation("2fb6f3908837e6a8a0b35abcd793a26f39b62670", "ws-0106");
    pub(super) const EXECUTIVE_OF_USER: Self =
        executive("d5de45017f79879e6155ceaff72c37bb1aa174ae", "EXEC-01");
    pub(super) const EXECUTIVE_OF_APPLICATION: Self =
        executive("959e99942e76300c254b6a4fb4299cd8fbfa8b25", "EXEC-02");
    pub(super) const UNLISTED_OPERATION: Self =
        server("c9e4acbe4edc874c3d9371fd6d2ae26ddc763a0e", "srv-web01");
    /// A package has been collected from it.
    pub(super) const COLLECTED: Self = server("25e9f630ef72e95f878296aa0fd532e2c0d21c02", "srv-sql01");

    /// All of them. The last two are in no printed call.
    pub const ALL: [Self; 12] = [
        Self::EXECUTIVE_OF_USER,
        Self::EXECUTIVE_OF_APPLICATION,
        Self::COLLECTED,
        Self::UNLISTED_OPERATION,
        Self::IDLE,
        Self::BUSY,
        Self::WITHOUT_COMMENT,
        Self::WITHOUT_TOKEN,
        Self::WITHOUT_PERMISSION,
        Self::WITHOUT_ROLE,
        server("2a521be4ddbefced8fbaa2123bd06eff7fe75085", "srv-dc01"),
        Self {
            os_platform: "macOS",
            group: Group::Ungrouped,
            ..workstation("127a5ea206aba01918879f555b708ca02c2df40d", "mac-0201")
        },
    ];

    /// Its DNS name, in full.
    pub fn dns_name(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }

    const fn collecting(self, collections: Collections) -> Self {
        Self { collections, ..self }
    }
}

/// The domain of every device.
pub(super) const DOMAIN: &str = "contoso.example";

/// A name that no device has.
pub(super) const NO_DEVICE: &str = "ws-0999.contoso.example";

/// The collection from [`SandboxDevice::COLLECTED`].
pub(super) const COLLECTION: &str = "5a0db0c5-0000-4000-8000-0000000000d1";

const fn workstation(id: &'static str, name: &'static str) -> SandboxDevice {
    let (group, collections) = (Group::Workstations, Collections::AsSet);
    SandboxDevice { id, name, os_platform: "Windows11", tags: &[], group, collections }
}

const fn executive(id: &'static str, name: &'static str) -> SandboxDevice {
    SandboxDevice { tags: &["VIP"], group: Group::Executives, ..workstation(id, name) }
}

const fn server(id: &'static str, name: &'static str) -> SandboxDevice {
    SandboxDevice { os_platform: "WindowsServer2022", group: Group::Servers, ..workstation(id, name) }
}

/// How the stand-in for the API is set up: these devices, one finished collection, the documented limits.
pub fn api_settings() -> ApiSettings {
    let actions = seeded_actions()
        .into_iter()
        .filter_map(|(id, device)| match device {
            DeviceRef::Id(device) => Some(SeededAction {
                id,
                device,
                requestor: "responder@contoso.example".into(),
                comment: "Collected before the sandbox was started".into(),
            }),
            DeviceRef::Entra(_) | DeviceRef::Name(_) => None,
        })
        .collect();
    ApiSettings {
        devices: SandboxDevice::ALL.into_iter().map(SandboxDevice::to_api).collect(),
        actions,
        ..ApiSettings::default()
    }
}

/// The actions that the API knows from the start, and the device of each: what the gateway would have learnt from
/// their 201.
pub fn seeded_actions() -> Vec<(ActionId, DeviceRef)> {
    ActionId::parse(COLLECTION)
        .map(|id| (id, DeviceRef::parse(SandboxDevice::COLLECTED.id)))
        .into_iter()
        .collect()
}

impl SandboxDevice {
    fn to_api(self) -> ApiDevice {
        ApiDevice {
            id: self.device_id(),
            entra_id: Some(self.entra_id()),
            name: self.dns_name(),
            os_platform: self.os_platform.into(),
            tags: self.tags.iter().map(|tag| (*tag).into()).collect(),
            group: self.group.to_api(),
            collections: self.collections,
        }
    }

    /// Its id in Entra: a GUID of the first 32 digits of its id in Defender, so that there is no second table.
    pub(super) fn entra_id(&self) -> EntraDeviceId {
        let bytes = self.device_id().as_bytes().first_chunk().copied().unwrap_or_default();
        EntraDeviceId::from_u128(u128::from_be_bytes(bytes))
    }

    fn device_id(&self) -> DeviceId {
        #[expect(clippy::expect_used, reason = "a constant of this file, read by a test")]
        self.id.parse().expect("40 hexadecimal digits")
    }
}

// === impl Group ===

impl Group {
    fn to_api(self) -> Option<RbacGroup> {
        let (id, name) = match self {
            Self::Executives => (101, "Executives"),
            Self::Servers => (102, "Servers"),
            Self::Workstations => (103, "Workstations"),
            Self::Ungrouped => return None,
        };
        Some(RbacGroup { id, name: name.into() })
    }
}
