//! What the API's answers say of machine actions, read as they pass: which was started, and which have ended.

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;

use super::exchange::Exchange;
use super::gateway::Gateway;
use super::started::{Stage, Started, started};
use super::statuses::StatusReader;
use crate::policy::Answer;

/// A machine action is about 1 KiB; an answer that is larger than this is not one.
const CAPTURE_BYTES: usize = 64 * 1024;

impl Gateway {
    /// Has the upstream answer a call so that what it says of actions can be read: not compressed, and whole. Who shows
    /// which actions have ended is only read while some are counted.
    pub(super) fn ask_for_actions(&self, request: &mut RequestHeader, exchange: &mut Exchange) -> Result<()> {
        match exchange.permit.as_ref().map(|permit| permit.answer()) {
            Some(Answer::Started(_)) => {}
            Some(Answer::Actions) if !self.line.limiter.open_actions().is_empty() => {
                exchange.statuses = Some(StatusReader::default());
                request.remove_header(&header::RANGE);
                request.remove_header(&header::IF_RANGE);
            }
            Some(Answer::Actions | Answer::Other) | None => return Ok(()),
        }
        request.insert_header(header::ACCEPT_ENCODING, "identity")
    }

    /// Reads the next piece of an answer.
    pub(super) fn read_actions(&self, piece: &Bytes, exchange: &mut Exchange) {
        if let Some(captured) = &mut exchange.captured {
            let room = CAPTURE_BYTES.saturating_sub(captured.len());
            captured.extend_from_slice(piece.get(..room).unwrap_or(piece));
        }
        if let Some(statuses) = &mut exchange.statuses {
            statuses.push(piece, |action| self.line.limiter.open_actions().ended(action));
        }
    }

    /// The answer is over: notes the action that it says was started, and which device it belongs to.
    pub(super) fn remember_action(&self, exchange: &mut Exchange) {
        let (id, Some(answer)) = (exchange.id(), exchange.captured.take()) else { return };
        let Some(permit) = &mut exchange.permit else { return };
        let Answer::Started(device) = permit.answer() else { return };
        match started(&answer, device) {
            Some(Started { id, device, stage }) => {
                match stage {
                    Stage::UnderWay => permit.opened(&id, &self.line.clock),
                    Stage::Ended => permit.settled(),
                }
                self.line.actions.record(id, device);
            }
            None => {
                permit.settled();
                tracing::warn!(request = %id, "the API's answer names no action: calls about it will be of an unknown one")
            }
        }
    }
}

impl Exchange {
    /// The header of the answer is here, with this status.
    pub(super) fn expect_actions(&mut self, status: StatusCode) {
        let starts = self.permit.as_ref().is_some_and(|permit| matches!(permit.answer(), Answer::Started(_)));
        // The documents print 201 for most, and 200 for some.
        self.captured = (starts && status.is_success()).then(BytesMut::new);
        // Those two are of something before the API, which may have begun the action.
        let unknown = matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
        if let Some(permit) = &mut self.permit
            && !status.is_success()
            && !unknown
        {
            permit.settled();
        }
        // An error shows no action, and a part of an answer may show half of one.
        if status != StatusCode::OK {
            self.statuses = None;
        }
    }
}
