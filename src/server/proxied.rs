//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a balancer says of a connection before
//! its client's first byte.
//!
//! Exactly the header is read from the socket, since what follows is TLS or HTTP and read by others.

use std::io;
use std::net::SocketAddr;

use ppp::HeaderResult;
use ppp::v2::Command;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Version 1 is a line of text, of at most this many bytes with its end (section 2.1).
const MAX_LINE: usize = 107;

/// Version 2 is this many bytes, and as many more as the last two of them say (section 2.2).
const FIXED: usize = 16;

/// What may follow: addresses are 216 bytes at most; the rest are notes that nobody here reads, some 100 bytes each.
const MAX_REST: u16 = 4_096;

/// Bytes that are no such header.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidHeader {
    /// It begins like neither version.
    #[error("it begins with other bytes")]
    Other,
    /// It has no end where one must be.
    #[error("it is too long")]
    Long,
    /// A version 1 that is not as the specification has it.
    #[error("version 1: {0}")]
    V1(ppp::v1::BinaryParseError),
    /// A version 2 that is not.
    #[error("version 2: {0}")]
    V2(ppp::v2::ParseError),
    /// It did not arrive.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Reads the header. It says where the connection's client is; none if the balancer speaks for itself, or does not know.
///
/// # Errors
/// If that is not what the connection begins with: there is no telling what was meant.
pub(super) async fn client(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, InvalidHeader> {
    let mut header = vec![0; ppp::v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == ppp::v2::PROTOCOL_PREFIX {
        header.resize(FIXED, 0);
        stream.read_exact(header.get_mut(ppp::v2::PROTOCOL_PREFIX.len()..).unwrap_or_default()).await?;
        let rest = header.last_chunk().copied().map_or(0, u16::from_be_bytes);
        if rest > MAX_REST {
            return Err(InvalidHeader::Long);
        }
        header.resize(FIXED + usize::from(rest), 0);
        stream.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    } else if header.starts_with(b"PROXY ") {
        // A byte at a time, since it is not said how long the line is.
        while !header.ends_with(b"\n") {
            if header.len() >= MAX_LINE {
                return Err(InvalidHeader::Long);
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(InvalidHeader::Other);
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(header) => match header.map_err(InvalidHeader::V1)?.addresses {
            ppp::v1::Addresses::Unknown => Ok(None),
            ppp::v1::Addresses::Tcp4(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
            ppp::v1::Addresses::Tcp6(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        },
        HeaderResult::V2(header) => {
            let header = header.map_err(InvalidHeader::V2)?;
            match (header.command, header.addresses) {
                (Command::Proxy, ppp::v2::Addresses::IPv4(ip)) => {
                    Ok(Some((ip.source_address, ip.source_port).into()))
                }
                (Command::Proxy, ppp::v2::Addresses::IPv6(ip)) => {
                    Ok(Some((ip.source_address, ip.source_port).into()))
                }
                (Command::Proxy, ppp::v2::Addresses::Unspecified | ppp::v2::Addresses::Unix(_))
                | (Command::Local, _) => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// What is read of these bytes, which come in pieces of one, and what is left of them.
    async fn read(bytes: &[u8]) -> (Result<Option<String>, String>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let sender = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await });
        let client = client(&mut near).await;
        let mut left = Vec::new();
        near.read_to_end(&mut left).await.unwrap();
        sender.await.unwrap().unwrap();
        (client.map(|client| client.map(|it| it.to_string())).map_err(|error| error.to_string()), left)
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn a_header_says_where_the_client_is_and_not_a_byte_behind_it_is_read() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 1, 187];
        let with_notes = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 1;
        v6[33] = 80;
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2001::1 ::1 80 443\r\n".to_vec(), Some("[2001::1]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:4660")),
            (v2(0x21, 0x11, &with_notes), Some("192.0.2.1:4660")),
            (v2(0x21, 0x21, &v6), Some("[2001::1]:80")),
            (v2(0x21, 0x00, b""), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0x00, b""), None),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let expected = (Ok(client.map(str::to_owned)), b"GET / HTTP/1.1\r\n".to_vec());
            assert_eq!(read(&bytes).await, expected, "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(MAX_LINE));
        for bytes in [
            &b""[..],
            b"PROXY",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443 x\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            b"PROXY TCP4 2001::1 ::1 80 443\r\n",
            b"PROXY TCP5 192.0.2.1 10.0.0.1 4660 443\r\n",
            b"PROXY  TCP4 192.0.2.1 10.0.0.1 4660 443\r\n",
            b"proxy TCP4 192.0.2.1 10.0.0.1 4660 443\r\n",
            long.as_bytes(),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x2f, 0x11, &[0; 12]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x11, &[0; 5_000]),
            &v2(0x21, 0x11, &[0; 12])[..20],
        ] {
            let (client, _) = read(bytes).await;
            assert!(client.is_err(), "{}: {client:?}", bytes.escape_ascii());
        }
    }
}
