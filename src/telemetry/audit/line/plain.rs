//! What prints as letters, digits, `-`, `.` and `:`: nothing to escape. Each call's two lines hold a dozen of these, and
//! a formatter would take longer than the rest of the line.

use std::io::Write;
use std::net::IpAddr;

use crate::id::{ApplicationId, DeviceId, EntraDeviceId, EntraGroupId, RequestId, TenantId, UserId};
use crate::outcome::Window;
use crate::time::Wall;

/// What can be written so.
pub(super) trait Plain {
    /// Writes it to the end of `bytes`.
    fn print(&self, bytes: &mut Vec<u8>);
}

macro_rules! ids {
    ($($id:ty: $length:literal),*) => {$(
        impl Plain for $id {
            fn print(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(self.text(&mut [0; $length]).as_bytes());
            }
        }
    )*};
}

ids! {
    RequestId: 36, TenantId: 36, ApplicationId: 36, UserId: 36, EntraGroupId: 36, EntraDeviceId: 36, DeviceId: 40
}

impl Plain for Wall {
    fn print(&self, bytes: &mut Vec<u8>) {
        Self::print(*self, bytes);
    }
}

impl Plain for Window {
    fn print(&self, bytes: &mut Vec<u8>) {
        match self.word() {
            Some(word) => bytes.extend_from_slice(word.as_bytes()),
            None => {
                bytes.extend_from_slice(itoa::Buffer::new().format(self.seconds()).as_bytes());
                bytes.push(b's');
            }
        }
    }
}

impl Plain for IpAddr {
    fn print(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::V4(address) => {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        bytes.push(b'.');
                    }
                    bytes.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            Self::V6(address) => {
                // Writing into memory can't fail.
                let _ = write!(bytes, "{address}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;
    use crate::outcome::Window;

    #[test]
    fn what_is_plain_is_written_as_it_prints() {
        fn written(value: impl Plain + Display) {
            let mut bytes = Vec::new();
            value.print(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), value.to_string());
        }
        written(RequestId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        for device in ["fb9ab6be3965095a09c057be7c90f0a2fb9ab6be", "fb9ab6be3965095a09c057be7c90f0a2"] {
            written(device.parse::<DeviceId>().unwrap());
        }
        for address in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "2001:db8::1", "::ffff:192.0.2.1"] {
            written(address.parse::<IpAddr>().unwrap());
        }
        for seconds in [1, 60, 90, 3_600, 86_400] {
            written(Window::from_seconds(seconds).unwrap());
        }
        written(Wall::from_unix_seconds(1_767_225_600));
    }
}
