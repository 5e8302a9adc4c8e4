//! What the old process still learns after it has handed over: told by the one, and taken in by the other.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::Relay;
use crate::journal::{Bequest, Heir, Journal};

/// What the process before this one still says, until it is gone.
#[derive(Debug)]
pub(in crate::server) struct Legacy {
    stream: UnixStream,
    relay: Relay,
}

/// The records that are to be told.
pub(super) struct Told(Receiver<Bequest>);

/// The thread that tells them. It ends when nobody has anything to say any more.
#[derive(Debug)]
pub(in crate::server) struct Telling(Option<JoinHandle<()>>);

pub(super) fn channel() -> (Heir, Told) {
    let (to, from) = mpsc::channel();
    (Heir(to), Told(from))
}

// === impl Told ===

impl Told {
    /// Tells them at this socket, until there are no more.
    pub(super) fn tell(self, mut stream: UnixStream) -> Telling {
        let tell = move || {
            let told = self.0.iter().try_for_each(|bequest| write(&mut stream, &bequest));
            if let Err(error) = told {
                tracing::warn!(%error, "the next process is not told how the last calls end");
            }
        };
        let thread = thread::Builder::new().name("legacy".to_owned()).spawn(tell);
        Telling(thread.inspect_err(|error| tracing::error!(%error, "no thread for the next process")).ok())
    }
}

// === impl Telling ===

impl Telling {
    /// Waits until everything is told. To be called when nobody has anything to say any more.
    pub(in crate::server) fn finish(mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

// === impl Legacy ===

impl Legacy {
    pub(super) fn new(stream: UnixStream, relay: Relay) -> Self {
        Self { stream, relay }
    }

    /// Hands each record to `take`, on a thread of its own. The answer turns to true when the other process is gone.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(in crate::server) fn listen(
        stream: UnixStream,
        mut take: impl FnMut(&str, &[u8]) + Send + 'static,
    ) -> io::Result<watch::Receiver<bool>> {
        let (gone, is_gone) = watch::channel(false);
        let listen = move || {
            let mut from = BufReader::new(stream);
            let ended = loop {
                match read(&mut from) {
                    Ok(Some((name, record))) => take(&name, &record),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "the process before this one broke off what it had to say");
            }
            gone.send_replace(true);
        };
        thread::Builder::new().name("legacy".to_owned()).spawn(listen)?;
        Ok(is_gone)
    }

    /// What [`listen`](Self::listen) is to read, and where calls are relayed to.
    pub(in crate::server) fn into_parts(self) -> (UnixStream, Relay) {
        (self.stream, self.relay)
    }
}

/// A record on the wire: the length of its journal's name in one byte, the name, its own length in four, little-endian,
/// and itself.
fn write(to: &mut impl Write, Bequest { name, record }: &Bequest) -> io::Result<()> {
    let mut bytes = vec![name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
    bytes.extend_from_slice(record);
    to.write_all(&bytes)
}

/// The next record; none at the end.
fn read(from: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut length = [0];
    if from.read(&mut length)? == 0 {
        return Ok(None);
    }
    let mut name = vec![0; usize::from(length[0])];
    from.read_exact(&mut name)?;
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > Journal::MAX_RECORD {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut record = vec![0; length];
    from.read_exact(&mut record)?;
    let name = String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Some((name, record)))
}
