//! Which of the service's calls a request is.

use http::request::Parts;
use http::{Method, StatusCode, Uri, header::HOST};
use percent_encoding::percent_decode_str;

use crate::id::ActionId;
use crate::sandbox::api::reply::ServiceError;

/// A call that the stand-in answers, with what its path names, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// `POST /api/machines/{device}/collectInvestigationPackage`
    Collect(String),
    /// `POST /api/machines/{device}/runliveresponse`
    LiveResponse(String),
    /// `GET /api/machines/{device}`
    Machine(String),
    /// `GET /api/machines`
    Machines,
    /// `GET /api/machineactions/{action}`
    Action(ActionId),
    /// `GET /api/machineactions`
    Actions,
    /// `GET /api/machineactions/{action}/getPackageUri`
    PackageUri(ActionId),
}

/// A call without what its path names: the service counts its limits by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Collect,
    LiveResponse,
    Machine,
    Machines,
    Action,
    Actions,
    PackageUri,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) skip: usize,
    pub(crate) top: usize,
    /// Whether the client set `$top` itself and so will not be told where the rest is.
    cut: Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    ByClient,
    ByService,
}

// === impl Call ===

impl Call {
    /// Matches as the service does: without regard to case, `/api/v1.0/` like `/api/`.
    ///
    /// # Errors
    ///
    /// 404 `NotFound` for any other path or method.
    pub(crate) fn read(method: &Method, path: &str) -> Result<Self, ServiceError> {
        let mut segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        if segments.get(1).is_some_and(|version| version.eq_ignore_ascii_case("v1.0")) {
            segments.remove(1);
        }
        // Only fixed words are lowered: what a path names may be wanted as it was sent.
        let words: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let named = || segments.get(2).and_then(|text| decode(text)).ok_or_else(not_found);
        let action = || ActionId::parse(&named()?).ok_or_else(not_found);
        match (method, words.as_slice()) {
            (&Method::POST, ["api", "machines", _, "collectinvestigationpackage"]) => {
                named().map(Self::Collect)
            }
            (&Method::POST, ["api", "machines", _, "runliveresponse"]) => named().map(Self::LiveResponse),
            (&Method::GET, ["api", "machines", _]) => named().map(Self::Machine),
            (&Method::GET, ["api", "machines"]) => Ok(Self::Machines),
            (&Method::GET, ["api", "machineactions", _]) => action().map(Self::Action),
            (&Method::GET, ["api", "machineactions"]) => Ok(Self::Actions),
            (&Method::GET, ["api", "machineactions", _, "getpackageuri"]) => action().map(Self::PackageUri),
            _ => Err(not_found()),
        }
    }

    pub(crate) const fn operation(&self) -> Operation {
        match self {
            Self::Collect(_) => Operation::Collect,
            Self::LiveResponse(_) => Operation::LiveResponse,
            Self::Machine(_) => Operation::Machine,
            Self::Machines => Operation::Machines,
            Self::Action(_) => Operation::Action,
            Self::Actions => Operation::Actions,
            Self::PackageUri(_) => Operation::PackageUri,
        }
    }
}

fn decode(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

fn not_found() -> ServiceError {
    ServiceError::new(StatusCode::NOT_FOUND, "NotFound", "No resource matches this path and method")
}

// === impl Page ===

impl Page {
    /// The most that one answer holds, as the service documents.
    pub(crate) const MAX_TOP: usize = 10_000;

    /// Reads `$top` and `$skip`. Other options would change the answer, so they are refused, not overlooked.
    ///
    /// # Errors
    ///
    /// 400 `ODataError`.
    pub(crate) fn read(uri: &Uri) -> Result<Self, ServiceError> {
        let bad = |message| ServiceError::bad_request("ODataError", message);
        let mut page = Self { skip: 0, top: Self::MAX_TOP, cut: Cut::ByService };
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || value.parse().map_err(|_| bad(format!("{value} is not a number of entities")));
            match &*percent_decode_str(name).decode_utf8_lossy() {
                "$skip" => page.skip = number()?,
                "$top" => {
                    page.top = number()?;
                    page.cut = Cut::ByClient;
                    if page.top > Self::MAX_TOP {
                        return Err(bad(format!("$top is at most {}", Self::MAX_TOP)));
                    }
                }
                other => return Err(bad(format!("The query option {other} is not supported"))),
            }
        }
        Ok(page)
    }

    /// Where the entities after this page are, if the service and not the client ended it. The host is the one
    /// that the request named, and absolute, as the service's is.
    pub(crate) fn next_link(self, head: &Parts, all: usize) -> Option<String> {
        let next = self.skip.saturating_add(self.top);
        if self.cut == Cut::ByClient || next >= all {
            return None;
        }
        let host = head.headers.get(HOST)?.to_str().ok()?;
        Some(format!("http://{host}{}?$skip={next}", head.uri.path()))
    }
}
