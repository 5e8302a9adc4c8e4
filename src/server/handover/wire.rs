//! What is said at the socket, byte by byte.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use super::Listeners;

/// Of what is said: two versions of Tollgate that say different things do not follow each other without a stop.
const VERSION: u8 = 1;

/// What the folder is that has the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Kind {
    /// The one that the process keeps its state in.
    Kept = b'k' as isize,
    /// One that lasts for the hand-over alone.
    Lent = b'l' as isize,
}

/// What the old process sends first.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    pub(super) listeners: Listeners,
    pub(super) lock: OwnedFd,
}

/// Handles in one message.
const HANDLES: usize = 3;

pub(super) fn send(
    stream: &UnixStream,
    kind: Kind,
    listeners: &Listeners,
    lock: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handles = [listeners.gateway.as_fd(), listeners.admin.as_fd(), lock];
    if !control.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // Handles travel only with at least one byte.
    let said = [VERSION, kind as u8];
    rustix::net::sendmsg(stream, &[IoSlice::new(&said)], &mut control, SendFlags::empty())?;
    Ok(())
}

pub(super) fn receive(stream: &UnixStream) -> io::Result<Sent> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0; 2];
    let mut to = [IoSliceMut::new(&mut said)];
    if rustix::net::recvmsg(stream, &mut to, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut handles = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handles) => handles.collect(),
        _ => Vec::new(),
    });
    let strange = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = match said {
        [VERSION, kind] if kind == Kind::Kept as u8 => Kind::Kept,
        [VERSION, kind] if kind == Kind::Lent as u8 => Kind::Lent,
        _ => return Err(strange("the running process is of a version that hands over otherwise")),
    };
    match (handles.next(), handles.next(), handles.next()) {
        (Some(gateway), Some(admin), Some(lock)) => {
            let listeners = Listeners { gateway: gateway.into(), admin: admin.into() };
            Ok(Sent { kind, listeners, lock })
        }
        _ => Err(strange("what came is not two listeners and a lock")),
    }
}

/// Waits for this byte.
pub(super) fn expect(stream: &mut UnixStream, byte: u8) -> io::Result<()> {
    let mut said = [0];
    stream.read_exact(&mut said)?;
    if said == [byte] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
