//! What the API's own 429 says: for how long such calls are to stay away (RFC 9110, section 10.2.3).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use pingora::http::ResponseHeader;

use super::exchange::Exchange;
use super::gateway::Gateway;
use crate::time::{Wall, retry_after};

/// How long a lane is closed if the API does not say: as the service's shorter window.
const UNSAID: Duration = Duration::from_secs(60);

/// The longest that it is closed, whatever the API says: as the service's longer window.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What an answer says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// For so long.
    Said(Duration),
    /// For longer than we keep away.
    Capped,
    /// Nothing that can be read.
    Unsaid,
}

// === impl Gateway ===

impl Gateway {
    /// Learns from the API's answer whether it takes more such calls.
    pub(super) fn heed(&self, response: &ResponseHeader, exchange: &mut Exchange) {
        if response.status != StatusCode::TOO_MANY_REQUESTS {
            if !response.status.is_server_error()
                && let Some(permit) = &mut exchange.permit
            {
                permit.succeeded();
            }
            return;
        }
        let Some(lane) = exchange.lane() else { return };
        let clock = &self.line.clock;
        let stay = Stay::read(&response.headers, clock.wall());
        self.books.metrics.upstream_limited(&lane.operation, stay.as_str());
        self.line.limiter.shut(&lane, stay.duration(), clock);
    }
}

// === impl Stay ===

impl Stay {
    /// Reads `Retry-After`: seconds, or a date, which is in the past for a clock that is ahead.
    pub(super) fn read(headers: &HeaderMap, now: Wall) -> Self {
        let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
            return Self::Unsaid;
        };
        match retry_after(text, now) {
            Some(long) if long > LONGEST => Self::Capped,
            Some(long) => Self::Said(long),
            None => Self::Unsaid,
        }
    }

    /// For how long calls stay away.
    pub(super) fn duration(self) -> Duration {
        match self {
            Self::Said(long) => long,
            Self::Capped => LONGEST,
            Self::Unsaid => UNSAID,
        }
    }

    /// The word among the labels.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Said(_) => "said",
            Self::Capped => "capped",
            Self::Unsaid => "unsaid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_nothing_keeps_calls_away_for_more_than_an_hour() {
        // 2026-01-01T00:00:00Z, a Thursday.
        let now = Wall::from_unix_seconds(1_767_225_600);
        let said = |seconds| Stay::Said(Duration::from_secs(seconds));
        for (text, stay) in [
            ("0", said(0)),
            (" 7 ", said(7)),
            ("3600", said(3_600)),
            ("3601", Stay::Capped),
            ("18446744073709551615", Stay::Capped),
            ("18446744073709551616", Stay::Unsaid),
            ("Thu, 01 Jan 2026 00:00:30 GMT", said(30)),
            ("Thu, 01 Jan 2026 01:00:01 GMT", Stay::Capped),
            ("Wed, 31 Dec 2025 23:00:00 GMT", said(0)),
            ("", Stay::Unsaid),
            ("-1", Stay::Unsaid),
            ("1.5", Stay::Unsaid),
            ("soon", Stay::Unsaid),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(Stay::read(&headers, now), stay, "{text}");
        }
        assert_eq!(Stay::read(&HeaderMap::new(), now), Stay::Unsaid);
        assert_eq!(Stay::Unsaid.duration(), Duration::from_secs(60));
        assert_eq!(Stay::Capped.duration(), Duration::from_secs(3_600));
    }
}
