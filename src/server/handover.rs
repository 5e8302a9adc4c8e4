//! A process passes its place to the next: its listeners, so that no connection finds nobody there, and what it counts,
//! so that exactly one of them decides at any moment.
//!
//! The new process waits at a socket in a folder that nobody else may enter. What is said there, in this order:
//!
//! | who | what | meaning |
//! |---|---|---|
//! | old | version and kind, with three handles | the listeners, and the lock of the folder that has the state |
//! | new | `r` and the name of its relay socket | it has compiled its policy, and could serve |
//! | old | `g` | nobody is admitted any more, and the folder has everything that counts |
//! | new | `s` | it has read that, and written nothing |
//! | old | `y` | the new one decides from now on |
//! | old | records | how calls end that were on their way: as they would have stood in the folder |
//!
//! Up to `y` the old process can go on as if nothing had been, and does if the new one falls silent or ends. After it, the
//! old one relays what still comes to it. Where the process keeps no state, the folder is one that lasts for the hand-over
//! alone.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::journal::{JournalError, StateFolder};
use crate::server::memory::Estate;
use crate::server::{StartError, listen};
use crate::settings::{HandoverSettings, Settings, StartMode};

mod legacy;
mod wire;

pub(super) use legacy::{Legacy, Telling};
pub(super) use wire::Kind;
use wire::Sent;

/// The socket's name in its folder.
const SOCKET: &str = "upgrade.sock";

/// Its name until it listens: whoever finds the other may connect.
const SOCKET_TO_BE: &str = "upgrade.sock.new";

/// What lasts for the hand-over alone, in the same folder.
const LENT: &str = "passing";

/// For the new process to compile its policy and to read what it is given; what is waited for longer is a mistake.
const PATIENCE: Duration = Duration::from_secs(60);

const READY: u8 = b'r';
const GIVEN: u8 = b'g';
const RESTORED: u8 = b's';
const YOURS: u8 = b'y';

/// A process's listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    /// For callers.
    pub(super) gateway: TcpListener,
    /// For operators.
    pub(super) admin: TcpListener,
}

/// The old process, which goes on until it is relieved.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    relay: Relay,
    state: StateFolder,
    kind: Kind,
}

/// Where the old process sends the calls that still come to it.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

/// What the old process has to pass on, and where.
#[derive(Debug)]
pub(super) struct Handover {
    folder: PathBuf,
    listeners: Listeners,
    talk: Mutex<Talk>,
}

/// How far the old process is with the new one.
#[derive(Debug)]
enum Talk {
    /// It does not talk to one, or has said its last word.
    None,
    /// It may still take back what it has given.
    UnderWay(UnixStream),
    /// It is to take it back, and to give nothing any more.
    CalledOff,
}

/// The listeners: bound here, or those of the process whose place this one takes.
///
/// # Errors
/// An address that can't be listened on, or [`StartError::Handover`], or a state folder that is not the running process's.
pub(super) fn listeners(settings: &Settings) -> Result<(Option<Predecessor>, Listeners), StartError> {
    match &settings.handover {
        Some(HandoverSettings { folder, start: StartMode::Upgrade }) => {
            let (predecessor, listeners) = Predecessor::wait(folder, settings.state.as_deref())?;
            Ok((Some(predecessor), listeners))
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
    /// If the folder is open to others, or what comes is something else, or the state that it keeps is not in the folder
    /// that this process is to keep its own in.
    fn wait(folder: &Path, own: Option<&Path>) -> Result<(Self, Listeners), StartError> {
        let (stream, sent) = accept(folder).map_err(failed(folder))?;
        let Sent { kind, listeners, lock } = sent;
        let state = match (kind, own) {
            (Kind::Kept, Some(own)) => StateFolder::received(own, lock)?,
            (Kind::Lent, None) => StateFolder::received(&folder.join(LENT), lock)?,
            (Kind::Kept, None) => return Err(StartError::StateWanted),
            (Kind::Lent, Some(_)) => return Err(StartError::StateUnwanted),
        };
        let relay = Relay::bind(folder).map_err(failed(folder))?;
        Ok((Self { stream, relay, state, kind }, listeners))
    }

    /// Tells it that this process could serve, waits until it admits nobody any more, and reads what it counted; then it
    /// is relieved, and what becomes of it from then on is the answer. It blocks the thread.
    ///
    /// # Errors
    /// If it goes on by itself, or is gone, or what it counted can't be read: then this process must not serve.
    pub(super) fn relieve<T>(
        mut self,
        read: impl FnOnce(&StateFolder) -> Result<T, JournalError>,
    ) -> Result<(T, Option<StateFolder>, Legacy), StartError> {
        let folder = self.relay.path.parent().unwrap_or(Path::new("")).to_owned();
        let failed = failed(&folder);
        self.stream.set_read_timeout(Some(PATIENCE)).map_err(&failed)?;
        let said = self.relay.say(&mut self.stream).and_then(|()| wire::expect(&mut self.stream, GIVEN));
        said.map_err(&failed)?;
        let counted = read(&self.state)?;
        let relieved =
            self.stream.write_all(&[RESTORED]).and_then(|()| wire::expect(&mut self.stream, YOURS));
        relieved.map_err(&failed)?;
        self.stream.set_read_timeout(None).map_err(&failed)?;
        let state = match self.kind {
            Kind::Kept => Some(self.state),
            Kind::Lent => {
                if let Err(error) = std::fs::remove_dir_all(self.state.path()) {
                    tracing::warn!(%error, "what lasted for the hand-over alone cannot be taken away");
                }
                None
            }
        };
        Ok((counted, state, Legacy::new(self.stream, self.relay)))
    }
}

// === impl Relay ===

impl Relay {
    /// Named after the process, since more than one may be relayed to while processes follow each other.
    fn bind(folder: &Path) -> io::Result<Self> {
        let path = folder.join(Self::name(std::process::id()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    fn name(process: u32) -> String {
        format!("relay-{process}.sock")
    }

    fn say(&self, to: &mut UnixStream) -> io::Result<()> {
        let [a, b, c, d] = std::process::id().to_le_bytes();
        to.write_all(&[READY, a, b, c, d])
    }

    fn heard(folder: &Path, from: &mut UnixStream) -> io::Result<PathBuf> {
        wire::expect(from, READY)?;
        let mut process = [0; 4];
        from.read_exact(&mut process)?;
        Ok(folder.join(Self::name(u32::from_le_bytes(process))))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
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
        let folder = private(folder).map_err(failed(folder))?.to_owned();
        Ok(Self { folder, listeners, talk: Mutex::new(Talk::None) })
    }

    /// Gives everything to the process that waits for it. What this one still learns is told to that one through the
    /// answer. It blocks the thread.
    ///
    /// # Errors
    /// If no process waits, or it did not come to decide, or it was called off: then this one goes on, as if nothing had
    /// been.
    pub(super) fn give(&self, estate: &Estate) -> io::Result<Telling> {
        let given = self.try_give(estate);
        let talk = &mut *self.talk.lock();
        if let Talk::UnderWay(_) = talk {
            // The new process sees the end only when nobody here has its stream any more.
            *talk = Talk::None;
        }
        given
    }

    /// Takes back what is being given, or will be: [`give`](Self::give) fails soon, unless the new process decides already.
    pub(super) fn call_off(&self) {
        if let Talk::UnderWay(stream) = std::mem::replace(&mut *self.talk.lock(), Talk::CalledOff) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn try_give(&self, estate: &Estate) -> io::Result<Telling> {
        let lent;
        let (state, kind) = match &estate.state {
            Some(state) => (&**state, Kind::Kept),
            None => {
                lent = StateFolder::open(&self.folder.join(LENT)).map_err(io::Error::other)?;
                (&lent, Kind::Lent)
            }
        };
        let mut stream = UnixStream::connect(self.folder.join(SOCKET))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.talk.lock().go_on(Talk::UnderWay(stream.try_clone()?))?;
        wire::send(&stream, kind, &self.listeners, state.lock())?;
        let relay = Relay::heard(&self.folder, &mut stream)?;
        let (heir, told) = legacy::channel();
        estate.pass_to(heir, state, kind).map_err(io::Error::other)?;
        let mut pass = || {
            stream.write_all(&[GIVEN])?;
            wire::expect(&mut stream, RESTORED)?;
            // INVARIANT: what was called off is not said, and what was said is not called off.
            self.talk.lock().go_on(Talk::None)?;
            stream.write_all(&[YOURS])
        };
        match pass() {
            Ok(()) => {
                estate.succession.pass_to(&relay);
                Ok(told.tell(stream))
            }
            Err(error) => {
                estate.take_back();
                Err(error)
            }
        }
    }
}

// === impl Talk ===

impl Talk {
    fn go_on(&mut self, next: Self) -> io::Result<()> {
        if let Self::CalledOff = self {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it was called off"));
        }
        *self = next;
        Ok(())
    }
}

fn failed(folder: &Path) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Handover { folder: folder.to_owned(), error }
}

/// Waits for the running process, and gets what it sends.
fn accept(folder: &Path) -> io::Result<(UnixStream, Sent)> {
    let (socket, to_be) = (private(folder)?.join(SOCKET), folder.join(SOCKET_TO_BE));
    match std::fs::remove_file(&to_be) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Left behind by one that was killed.
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&to_be)?;
    // In the place of one that was killed while it waited, too.
    std::fs::rename(to_be, &socket)?;
    let (stream, _) = listener.accept()?;
    // A second process that is told to upgrade finds nobody waiting.
    std::fs::remove_file(&socket)?;
    let sent = wire::receive(&stream)?;
    Ok((stream, sent))
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

#[cfg(test)]
mod tests;
