//! The listeners of a process pass to the one that takes its place, so that no connection finds nobody there.
//!
//! The new process waits at a socket in a folder that nobody else may enter. The old one, told by SIGQUIT, sends its
//! listeners, goes on serving until the new one says that it serves too, and then takes no more connections. If the new
//! one fails before, nothing has changed.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::server::{StartError, listen};
use crate::settings::{HandoverSettings, Settings, StartMode};

/// The socket's name in its folder.
const SOCKET: &str = "upgrade.sock";

/// For the new process to compile its policy and serve; what it waits for longer is a mistake.
const START: Duration = Duration::from_secs(60);

/// What the new process says once it serves.
const SERVING: u8 = b'+';

/// A process's listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    /// For callers.
    pub(super) gateway: TcpListener,
    /// For operators.
    pub(super) admin: TcpListener,
}

/// The old process, which goes on serving until it is told.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// What the old process has to pass on, and where.
#[derive(Debug)]
pub(super) struct Handover {
    socket: PathBuf,
    listeners: Listeners,
}

/// The listeners: bound here, or those of the process whose place this one takes.
///
/// # Errors
/// An address that can't be listened on, or [`StartError::Handover`].
pub(super) fn listeners(settings: &Settings) -> Result<(Option<Predecessor>, Listeners), StartError> {
    match &settings.handover {
        Some(HandoverSettings { folder, start: StartMode::Upgrade }) => {
            let waited = Predecessor::wait(folder)?;
            Ok((Some(waited.0), waited.1))
        }
        Some(HandoverSettings { start: StartMode::Fresh, .. }) | None => {
            Ok((None, Listeners { gateway: listen(settings.listen)?, admin: listen(settings.admin)? }))
        }
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Waits for the running process to send its listeners.
    ///
    /// # Errors
    /// If the folder is open to others, or what comes is not two listeners.
    fn wait(folder: &Path) -> Result<(Self, Listeners), StartError> {
        Self::try_wait(folder).map_err(failed(folder))
    }

    fn try_wait(folder: &Path) -> io::Result<(Self, Listeners)> {
        let socket = private(folder)?.join(SOCKET);
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Left behind by one that was killed while it waited.
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket)?;
        let (stream, _) = listener.accept()?;
        // A second process that is told to upgrade finds nobody waiting.
        std::fs::remove_file(&socket)?;
        let listeners = receive(&stream)?;
        Ok((Self(stream), listeners))
    }

    /// Tells it that this process serves.
    ///
    /// # Errors
    /// If it is gone, or did not wait: then it may go on serving beside this process, which does no harm.
    pub(super) fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(&[SERVING])
    }
}

// === impl Handover ===

impl Handover {
    /// # Errors
    /// If the folder is open to others, or the system gives no second handle.
    pub(super) fn prepare(
        folder: &Path,
        gateway: &TcpListener,
        admin: &TcpListener,
    ) -> Result<Self, StartError> {
        let clone = |listener: &TcpListener| listener.try_clone().map_err(failed(folder));
        let listeners = Listeners { gateway: clone(gateway)?, admin: clone(admin)? };
        let folder = private(folder).map_err(failed(folder))?;
        Ok(Self { socket: folder.join(SOCKET), listeners })
    }

    /// Sends the listeners to the process that waits for them, and waits until it serves. It blocks the thread.
    ///
    /// # Errors
    /// If no process waits, or it did not come to serve: then this one is to go on.
    pub(super) fn give(&self) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(START))?;
        send(&stream, &self.listeners)?;
        let mut said = [0];
        stream.read_exact(&mut said)?;
        if said == [SERVING] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

fn failed(folder: &Path) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Handover { folder: folder.to_owned(), error }
}

/// The folder, made if it is not there: whoever could reach the socket could take the gateway's place.
fn private(folder: &Path) -> io::Result<&Path> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let metadata = std::fs::metadata(folder)?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !own || !metadata.is_dir() || Permissions::mode(&metadata.permissions()) & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not a folder of this user that is closed to others (mode 0700)",
        ));
    }
    Ok(folder)
}

fn send(stream: &UnixStream, listeners: &Listeners) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handles = [listeners.gateway.as_fd(), listeners.admin.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // Handles travel only with at least one byte.
    rustix::net::sendmsg(stream, &[IoSlice::new(&[SERVING])], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Listeners> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut handles = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handles) => handles.collect(),
        _ => Vec::new(),
    });
    match (handles.next(), handles.next()) {
        (Some(gateway), Some(admin)) => Ok(Listeners { gateway: gateway.into(), admin: admin.into() }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what came is not two listeners")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn listeners_pass_to_whoever_waits_and_the_old_process_learns_when_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let (gateway, admin) = (listener(), listener());
        let handover = Handover::prepare(&folder, &gateway, &admin).unwrap();
        assert_eq!(handover.give().unwrap_err().kind(), io::ErrorKind::NotFound, "nobody waits");
        std::thread::scope(|scope| {
            let new = scope.spawn(|| {
                let (predecessor, listeners) = Predecessor::wait(&folder).unwrap();
                predecessor.relieve().unwrap();
                [listeners.gateway, listeners.admin].map(|it| it.local_addr().unwrap())
            });
            while handover.give().is_err() {
                std::thread::yield_now();
            }
            assert_eq!(new.join().unwrap(), [gateway, admin].map(|it| it.local_addr().unwrap()));
        });
        assert!(!folder.join(SOCKET).exists());
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_new_process_that_ends_before_it_serves_leaves_the_old_one_serving() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let handover = Handover::prepare(&folder, &listener(), &listener()).unwrap();
        std::thread::scope(|scope| {
            let new = scope.spawn(|| drop(Predecessor::wait(&folder).unwrap()));
            let error = loop {
                match handover.give().unwrap_err() {
                    error if error.kind() == io::ErrorKind::UnexpectedEof => break error,
                    _ => std::thread::yield_now(),
                }
            };
            new.join().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn a_folder_that_is_open_to_others_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o770, 0o701] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let error = Handover::prepare(folder.path(), &listener(), &listener()).unwrap_err();
            assert!(error.to_string().contains("closed to others"), "{mode:o}: {error}");
            assert!(Predecessor::wait(folder.path()).is_err());
        }
    }
}
