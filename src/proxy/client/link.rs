//! What the door of a connection and its requests tell each other.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::ClientStream;
use super::socket::Socket;
use crate::id::RequestId;

/// What a connection's door and its requests share.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Link {
    linked: Mutex<Linked>,
    /// Whether a read is to wait for the client's going, and to hand nothing on.
    watched: AtomicBool,
    /// Whether the end of the connection would be taken for the end of an answer that is not whole yet.
    open_ended: AtomicBool,
    sender: Sender,
}

/// Who sends the requests of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) enum Sender {
    #[default]
    Client,
    /// The process before this one, which took them in.
    Predecessor,
}

/// As long as it lives, whoever reads from the connection is told nothing but that its client has gone.
#[derive(Debug)]
pub(in crate::proxy) struct Watched<'l>(&'l Link);

#[derive(Debug, Default)]
struct Linked {
    /// The request that Pingora handed us, if it did.
    request: Option<RequestId>,
    /// The connection that Pingora dropped: it closes without a word where an answer may still have to be written, or
    /// read by the client.
    dropped: Option<ClientStream>,
}

// === impl Link ===

impl Link {
    pub(super) fn of(socket: &Socket) -> Self {
        let sender = match socket {
            Socket::Plain(_) | Socket::Tls(_) => Sender::Client,
            Socket::Relayed(_) => Sender::Predecessor,
        };
        Self { sender, ..Self::default() }
    }

    pub(in crate::proxy) fn sender(&self) -> Sender {
        self.sender
    }

    /// Pingora took the request for one, and has begun its phases.
    pub(in crate::proxy) fn reached(&self, request: RequestId) {
        self.linked.lock().request = Some(request);
    }

    /// The request whose phases were begun, since the last call.
    pub(in crate::proxy) fn request(&self) -> Option<RequestId> {
        self.linked.lock().request.take()
    }

    /// The end of the connection will be the end of the answer, and must not come in order before that.
    pub(in crate::proxy) fn ends_with_connection(&self) {
        self.open_ended.store(true, Ordering::Relaxed);
    }

    /// The answer was written to its end.
    pub(in crate::proxy) fn came_to_its_end(&self) {
        self.open_ended.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_open_ended(&self) -> bool {
        self.open_ended.load(Ordering::Relaxed)
    }

    /// The connection that was dropped, if it is of any use: not if its orderly end would pass an answer off as whole.
    pub(in crate::proxy) fn dropped(&self) -> Option<ClientStream> {
        let dropped = self.linked.lock().dropped.take();
        dropped.filter(|client| client.is_whole() && !self.is_open_ended())
    }

    /// Pingora dropped the connection.
    pub(super) fn save(&self, client: ClientStream) {
        self.linked.lock().dropped = Some(client);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Lets reads wait for the client's going.
    pub(in crate::proxy) fn watch(&self) -> Watched<'_> {
        self.watched.store(true, Ordering::Relaxed);
        Watched(self)
    }
}

// === impl Watched ===

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::Relaxed);
    }
}
