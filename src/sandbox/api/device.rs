//! The tenant's devices.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::sandbox::api::reply::ServiceError;
use crate::time::Wall;

/// A device as the service knows it.
#[derive(Debug, Clone)]
pub struct ApiDevice {
    /// Its id in Defender.
    pub id: DeviceId,
    /// Its id in Entra, if it has joined.
    pub entra_id: Option<EntraDeviceId>,
    /// `computerDnsName`.
    pub name: String,
    /// `osPlatform`, such as `Windows11`.
    pub os_platform: String,
    /// `machineTags`.
    pub tags: Vec<String>,
    /// The device group that the portal has put it in; none for an ungrouped device.
    pub group: Option<RbacGroup>,
    /// How its collections go.
    pub collections: Collections,
}

/// A device group as answers name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RbacGroup {
    /// `rbacGroupId`, a number in the service's answers.
    pub id: u32,
    /// `rbacGroupName`.
    pub name: String,
}

/// How long the collections of a device run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collections {
    /// As long as [`ApiSettings::running_for`](crate::sandbox::api::ApiSettings::running_for) says.
    #[default]
    AsSet,
    /// So long; zero for collections that have succeeded when they are next asked for.
    Last(Duration),
    /// One is running from the start and never ends.
    NeverEnd,
}

/// The devices, found by each of their three names.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    list: Vec<ApiDevice>,
    by_name: HashMap<DeviceRef, usize>,
}

/// A device as the service prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineDocument<'a> {
    id: String,
    computer_dns_name: &'a str,
    first_seen: Wall,
    last_seen: Wall,
    os_platform: &'a str,
    os_version: Option<&'a str>,
    os_processor: &'a str,
    os_architecture: &'a str,
    version: &'a str,
    os_build: u32,
    last_ip_address: Ipv4Addr,
    last_external_ip_address: Ipv4Addr,
    ip_addresses: [IpAddressDocument<'a>; 1],
    health_status: &'a str,
    onboarding_status: &'a str,
    device_value: &'a str,
    rbac_group_id: u32,
    rbac_group_name: Option<&'a str>,
    risk_score: &'a str,
    exposure_level: &'a str,
    is_aad_joined: bool,
    aad_device_id: Option<String>,
    machine_tags: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IpAddressDocument<'a> {
    ip_address: Ipv4Addr,
    mac_address: String,
    #[serde(rename = "type")]
    kind: &'a str,
    operational_status: &'a str,
}

/// When every device was first seen: 2025-01-01.
const FIRST_SEEN: Wall = Wall::from_unix_seconds(1_735_689_600);

// === impl Collections ===

impl Collections {
    /// How long one runs; as long as there is for one that never ends.
    pub(crate) const fn duration(self, as_set: Duration) -> Duration {
        match self {
            Self::AsSet => as_set,
            Self::Last(duration) => duration,
            Self::NeverEnd => Duration::MAX,
        }
    }
}

// === impl Devices ===

impl Devices {
    /// Of two devices with one name the first is found by it.
    pub(crate) fn new(list: Vec<ApiDevice>) -> Self {
        let mut by_name = HashMap::new();
        for (place, device) in list.iter().enumerate() {
            let names = [
                Some(DeviceRef::Id(device.id)),
                device.entra_id.map(DeviceRef::Entra),
                Some(DeviceRef::Name(device.name.to_lowercase().into())),
            ];
            for name in names.into_iter().flatten() {
                by_name.entry(name).or_insert(place);
            }
        }
        Self { list, by_name }
    }

    /// The device of this name, and its place in the list.
    pub(crate) fn find(&self, named: &DeviceRef) -> Option<(usize, &ApiDevice)> {
        let place = *self.by_name.get(named)?;
        Some((place, self.list.get(place)?))
    }

    /// The device at a place that [`find`](Self::find) gave.
    pub(crate) fn at(&self, place: usize) -> Result<&ApiDevice, ServiceError> {
        self.list.get(place).ok_or_else(|| ServiceError::resource_not_found("The machine was not found"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ApiDevice> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

// === impl ApiDevice ===

impl ApiDevice {
    /// The device as the service prints it, alive at `now`.
    pub(crate) fn machine(&self, now: Wall) -> MachineDocument<'_> {
        let [a, b, c] = self.id.as_bytes().first_chunk().copied().unwrap_or_default();
        let address = Ipv4Addr::new(10, a, b, c);
        let (version, os_build) = match self.os_platform.as_str() {
            "Windows11" => ("24H2", 26_100),
            "Windows10" => ("22H2", 19_045),
            "WindowsServer2022" => ("21H2", 20_348),
            _ => ("Other", 0),
        };
        MachineDocument {
            id: self.id.to_string(),
            computer_dns_name: &self.name,
            first_seen: FIRST_SEEN,
            last_seen: now,
            os_platform: &self.os_platform,
            os_version: None,
            os_processor: "x64",
            os_architecture: "64-bit",
            version,
            os_build,
            last_ip_address: address,
            // Of the range that RFC 5737 keeps for examples.
            last_external_ip_address: Ipv4Addr::new(203, 0, 113, c),
            ip_addresses: [IpAddressDocument {
                ip_address: address,
                mac_address: format!("00005E{a:02X}{b:02X}{c:02X}"),
                kind: "Ethernet",
                operational_status: "Up",
            }],
            health_status: "Active",
            onboarding_status: "onboarded",
            device_value: "Normal",
            rbac_group_id: self.group.as_ref().map_or(0, |group| group.id),
            rbac_group_name: self.group.as_ref().map(|group| group.name.as_str()),
            risk_score: "None",
            exposure_level: "Low",
            is_aad_joined: self.entra_id.is_some(),
            aad_device_id: self.entra_id.map(|id| id.to_string()),
            machine_tags: &self.tags,
        }
    }
}
