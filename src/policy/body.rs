//! What the body of a call must be, where the checks have to read it.
//!
//! A body that two readers could understand differently is refused: the API must see what we saw.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use crate::id::DeviceRef;
use crate::outcome::ReasonCode;
use crate::policy::document::{MediaTypeWord, MemberWord};

mod devices;
mod example;
mod json;

pub(crate) use devices::DevicesMember;

/// What an operation's body must be: one JSON object with certain members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyContract {
    media_type: MediaType,
    required: Vec<Member>,
    devices: Option<DevicesMember>,
    max: MaxBody,
}

/// The type of a body that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    /// `application/json` in UTF-8.
    Json,
}

/// A member that the body must have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: Arc<str>,
    kind: MemberKind,
}

/// What a required member must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    /// A string with more in it than white space.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list, of whatever length.
    List,
    /// An object.
    Object,
}

/// The largest body of an operation, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxBody(usize);

/// Text that is not the size of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size such as `64 KiB`, from `1 KiB` to `1 MiB`")]
pub(crate) struct InvalidMaxBody {
    text: String,
}

/// What the checks need to know of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The member `Comment`, if there is one and it is a string: who asked and why, for the audit.
    pub comment: Option<Arc<str>>,
    /// Every device that the body names, in its order, at least one if the contract says where they stand.
    pub devices: Vec<DeviceRef>,
}

/// Why a body is not taken. Its text is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A header says that the body is of another type, or coded.
    #[error("{header} must be {expected}")]
    WrongType {
        /// The header.
        header: &'static str,
        /// What it must say.
        expected: &'static str,
    },
    /// The body is not what its type says, or could be read in two ways.
    #[error("Invalid request body: {0}")]
    BadBody(BadBody),
    /// A required member is absent, null or blank.
    #[error("The parameter `{name}` is required")]
    MissingParameter {
        /// The member.
        name: Arc<str>,
    },
    /// The body is too large.
    #[error("The request body is larger than {max} bytes")]
    TooLarge {
        /// The most that the operation takes, in bytes.
        max: usize,
    },
}

/// What is wrong with a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// It begins with a byte-order mark.
    #[error("it begins with a byte-order mark")]
    ByteOrderMark,
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It is not one JSON object, or an object in it has a member twice.
    #[error("{0}")]
    Json(String),
    /// A member is a required one but for case; the API's names are case-sensitive.
    #[error("the member `{found}` differs from `{name}` only in case")]
    Case {
        /// As found.
        found: String,
        /// As required.
        name: Arc<str>,
    },
    /// A required member is of another type.
    #[error("the member `{name}` must be {expected}")]
    Kind {
        /// The member.
        name: Arc<str>,
        /// What it must be, with its article.
        expected: &'static str,
    },
    /// It names more devices than the API takes in one call.
    #[error("the member `{name}` names more than {} devices", devices::MAX_DEVICES)]
    Devices {
        /// The member.
        name: Arc<str>,
    },
}

// === impl BodyContract ===

impl BodyContract {
    pub(crate) fn new(
        media_type: MediaTypeWord,
        required: BTreeMap<String, MemberWord>,
        devices: Option<DevicesMember>,
        max: Option<MaxBody>,
    ) -> Self {
        let media_type = match media_type {
            MediaTypeWord::Json => MediaType::Json,
        };
        let member = |(name, kind): (String, MemberWord)| Member { name: name.into(), kind: kind.into() };
        let required = required.into_iter().map(member).collect();
        Self { media_type, required, devices, max: max.unwrap_or(MaxBody::DEFAULT) }
    }

    /// Whether the body names the devices that the call acts on.
    pub(crate) fn names_devices(&self) -> bool {
        self.devices.is_some()
    }

    /// The largest body that is read, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max.0
    }

    /// Checks what the header says of the body, before any of it is read.
    pub fn check_head(&self, headers: &HeaderMap) -> Result<(), BodyError> {
        let MediaType::Json = self.media_type;
        if !single(headers, &CONTENT_TYPE).is_some_and(is_json) {
            let expected = "`application/json`, in UTF-8 and without other parameters";
            return Err(BodyError::WrongType { header: "Content-Type", expected });
        }
        if !headers.contains_key(CONTENT_ENCODING) {
            return Ok(());
        }
        if !single(headers, &CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("identity")) {
            return Err(BodyError::WrongType {
                header: "Content-Encoding",
                expected: "absent, or `identity`",
            });
        }
        Ok(())
    }

    /// Checks the whole body and takes from it what the checks and the audit need.
    pub fn check(&self, body: &[u8]) -> Result<Contents, BodyError> {
        if body.len() > self.max.0 {
            return Err(BodyError::TooLarge { max: self.max.0 });
        }
        if body.starts_with(b"\xef\xbb\xbf") {
            return Err(BodyError::BadBody(BadBody::ByteOrderMark));
        }
        let text = str::from_utf8(body).map_err(|_| BodyError::BadBody(BadBody::NotUtf8))?;
        let way = self.devices.as_ref().map_or(&[][..], DevicesMember::way);
        let (object, named) =
            json::read(text, way).map_err(|error| BodyError::BadBody(BadBody::Json(error.to_string())))?;
        for member in &self.required {
            member.check(&object)?;
        }
        let devices = match &self.devices {
            Some(member) => member.check(named)?,
            None => Vec::new(),
        };
        Ok(Contents { comment: object.text("Comment").map(Arc::from), devices })
    }
}

// === impl Member ===

impl Member {
    fn check(&self, object: &json::Object<'_>) -> Result<(), BodyError> {
        if let Some(found) = object.names().find(|found| differs_only_in_case(found, &self.name)) {
            let found = found.to_owned();
            return Err(BodyError::BadBody(BadBody::Case { found, name: self.name.clone() }));
        }
        let found = match object.get(&self.name) {
            None | Some(json::Member::Null) => return self.missing(),
            Some(json::Member::Text(text)) if text.trim().is_empty() => return self.missing(),
            Some(json::Member::Text(_)) => MemberKind::Text,
            Some(json::Member::Other(kind)) => *kind,
        };
        if found == self.kind {
            return Ok(());
        }
        let expected = self.kind.as_str();
        Err(BodyError::BadBody(BadBody::Kind { name: self.name.clone(), expected }))
    }

    fn missing(&self) -> Result<(), BodyError> {
        Err(BodyError::MissingParameter { name: self.name.clone() })
    }
}

// === impl MemberKind ===

impl MemberKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

impl From<MemberWord> for MemberKind {
    fn from(word: MemberWord) -> Self {
        match word {
            MemberWord::String => Self::Text,
            MemberWord::Number => Self::Number,
            MemberWord::Boolean => Self::Boolean,
            MemberWord::List => Self::List,
            MemberWord::Object => Self::Object,
        }
    }
}

/// Upper and lower case are both compared, since readers differ in which of the two they fold to.
fn differs_only_in_case(found: &str, name: &str) -> bool {
    found != name
        && (found.to_lowercase() == name.to_lowercase() || found.to_uppercase() == name.to_uppercase())
}

// === impl MaxBody ===

impl MaxBody {
    /// Enough for a comment and a list of some hundred devices.
    const DEFAULT: Self = Self(64 * KIB);
    /// A body is held whole while the call is decided, one for each call in flight.
    const MAX: usize = 1024 * KIB;
}

const KIB: usize = 1024;

impl FromStr for MaxBody {
    type Err = InvalidMaxBody;

    fn from_str(text: &str) -> Result<Self, InvalidMaxBody> {
        let parse = || {
            let (count, unit) = text.split_once(' ')?;
            let unit = match unit {
                "KiB" => KIB,
                "MiB" => 1024 * KIB,
                _unknown => return None,
            };
            let bytes = count.parse::<usize>().ok()?.checked_mul(unit)?;
            (1..=Self::MAX).contains(&bytes).then_some(Self(bytes))
        };
        parse().ok_or_else(|| InvalidMaxBody { text: text.into() })
    }
}

impl fmt::Display for MaxBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.0 / KIB)
    }
}

// === impl BodyError ===

impl BodyError {
    /// The word for it.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::WrongType { .. } => ReasonCode::WrongType,
            Self::BadBody(_) => ReasonCode::BadBody,
            Self::MissingParameter { .. } => ReasonCode::MissingParameter,
            Self::TooLarge { .. } => ReasonCode::BodyTooLarge,
        }
    }
}

/// The value of a header that is there exactly once and is visible ASCII.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (_, _) => None,
    }
}

/// Whether a `Content-Type` is JSON in UTF-8. A parameter other than one `charset` is not taken: what it would
/// change, we would not see.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim_matches([' ', '\t']));
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return false;
    }
    let mut parameters = parts.filter(|part| !part.is_empty());
    parameters.next().is_none_or(is_utf8_charset) && parameters.next().is_none()
}

fn is_utf8_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests;
