//! How fast a client gives a body that streams on over HTTP/2.
//!
//! Of HTTP/1 the connection itself knows for whom it waits. An HTTP/2 stream is read by Pingora alone, which waits for a
//! client as long as it takes; but each piece passes the gateway on its way, and is let go of once the upstream has it.
//! We wait for the client while there is none on its way.
//!
//! What fills the length that the head said is kept until the stream ends: by HTTP/1.1 the upstream would take the request
//! for whole, and a client may still give more, or reset it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::bounds::Bounds;
use super::credit::Credit;
use crate::time::Clock;

/// A body may be on its way when its client has nearly no credit left: it is then looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The upload of the stream that this task serves: Pingora carries nothing from whom it gets a stream from to the
    /// phases of its request.
    static UPLOAD: Arc<Upload>;
}

/// The body of one HTTP/2 request.
#[derive(Debug)]
pub(super) struct Upload {
    flow: Mutex<Flow>,
    clock: Clock,
    bounds: Arc<Bounds>,
}

#[derive(Debug)]
struct Flow {
    stage: Stage,
    credit: Credit,
    /// Pieces that the upstream has not taken.
    under_way: usize,
    /// Bytes that are still to come, if the head said how many.
    due: Option<usize>,
    /// The last of them.
    last: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It does not stream, or not yet.
    Before,
    Streaming,
    Ended,
    TooSlow,
}

/// A piece on its way to the upstream.
struct Piece {
    bytes: Bytes,
    upload: Arc<Upload>,
}

// === impl Upload ===

impl Upload {
    pub(super) fn new(clock: Clock, bounds: Arc<Bounds>) -> Arc<Self> {
        let credit = Credit::new(&bounds);
        let flow = Flow { stage: Stage::Before, credit, under_way: 0, due: None, last: Bytes::new() };
        Arc::new(Self { flow: Mutex::new(flow), clock, bounds })
    }

    /// Does the work of a stream, whose upload this is.
    pub(super) async fn scope<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        UPLOAD.scope(self, work).await
    }

    /// That of the present task; none over HTTP/1, nor where there is no body.
    pub(super) fn current() -> Option<Arc<Self>> {
        UPLOAD.try_with(Arc::clone).ok()
    }

    /// The client's turn, to give so many bytes if its head said how many.
    pub(super) fn begin(&self, length: Option<usize>) {
        let flow = &mut *self.flow.lock();
        (flow.stage, flow.due, flow.last) = (Stage::Streaming, length, Bytes::new());
        flow.credit.wait(&self.clock);
    }

    /// The client gave a piece; what of it goes on now. It is let go of when it has been sent.
    pub(super) fn piece(self: &Arc<Self>, piece: Bytes) -> Bytes {
        let flow = &mut *self.flow.lock();
        flow.credit.moved(piece.len(), &self.clock, &self.bounds);
        flow.due = flow.due.map(|due| due.saturating_sub(piece.len()));
        let piece = if flow.due == Some(0) && !piece.is_empty() {
            flow.last = piece;
            Bytes::new()
        } else {
            piece
        };
        self.send(flow, piece)
    }

    /// Nothing more comes behind this piece; what goes on as the last.
    pub(super) fn end(self: &Arc<Self>, piece: Option<Bytes>) -> Option<Bytes> {
        let flow = &mut *self.flow.lock();
        flow.stage = Stage::Ended;
        let last = std::mem::take(&mut flow.last);
        let piece = if last.is_empty() { piece } else { Some(last) };
        piece.map(|piece| self.send(flow, piece))
    }

    fn send(self: &Arc<Self>, flow: &mut Flow, piece: Bytes) -> Bytes {
        if piece.is_empty() {
            if flow.under_way == 0 {
                flow.credit.wait(&self.clock);
            }
            return piece;
        }
        flow.under_way += 1;
        Bytes::from_owner(Piece { bytes: piece, upload: self.clone() })
    }

    pub(super) fn was_too_slow(&self) -> bool {
        self.flow.lock().stage == Stage::TooSlow
    }

    /// Returns once the client has kept us waiting for too long.
    pub(super) async fn too_slow(&self) {
        while let Some(left) = self.left() {
            // No sooner can it be used up; that a client has earned more is seen then.
            self.clock.sleep(left).await;
        }
    }

    /// The least time that the client still has; none if it has had it all.
    fn left(&self) -> Option<Duration> {
        let flow = &mut *self.flow.lock();
        let left = flow.credit.left(&self.clock);
        match flow.stage {
            Stage::Streaming if flow.under_way == 0 && left.is_zero() => {
                flow.stage = Stage::TooSlow;
                None
            }
            Stage::Streaming if flow.under_way == 0 => Some(left),
            Stage::Before | Stage::Streaming | Stage::Ended => Some(left.max(LOOK_AGAIN)),
            Stage::TooSlow => None,
        }
    }
}

// === impl Piece ===

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let flow = &mut *self.upload.flow.lock();
        flow.under_way -= 1;
        if flow.under_way == 0 {
            flow.credit.wait(&self.upload.clock);
        }
    }
}
