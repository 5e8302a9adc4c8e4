//! Links in answers that lead past the gateway, turned to lead through it.
//!
//! The API gives a long list in pages, and each page names the next one by an absolute address of the API's own
//! (`@odata.nextLink`, OData JSON Format 4.01, section 4.5.5). Clients follow it as it stands. Here scheme and host of
//! every such link become those by which clients find the gateway, as the answer streams past: nothing of it is held
//! back but a link that has not arrived whole.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// How clients find the gateway: scheme, host and port, without a path.
#[derive(Debug, Clone)]
pub struct PublicUrl(Arc<str>);

/// Rewrites the links of one answer in JSON.
///
/// It reads strings and what stands between them, and no more of JSON: outside strings a quotation mark begins one, and
/// a string is a member's name if a colon follows. So it finds a link however the answer is cut into pieces, spaced or
/// escaped, and changes no other byte.
#[derive(Debug)]
pub(super) struct LinkRewriter {
    public: PublicUrl,
    state: State,
    /// The string that is being read, quotation marks left out: a name as far as it can be one of ours, a link whole.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside strings.
    Between,
    /// In a string.
    Text,
    /// In a string, behind a backslash.
    TextEscape,
    /// Behind a string that is a link's name if a colon follows.
    Named,
    /// Behind a link's name and the colon.
    Expected,
    /// In a link.
    Link,
    /// In a link, behind a backslash.
    LinkEscape,
}

/// A link that cannot be read: the answer must not be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnreadableLink {
    /// It is longer than any address that is taken.
    #[error("a link is longer than {MAX_LINK} bytes")]
    Long,
    /// It holds an escape that is none.
    #[error("a link is not a JSON string")]
    NotAString,
    /// The answer ends within it.
    #[error("the answer ends within a link")]
    CutOff,
}

/// Twice the longest request target that the door takes.
const MAX_LINK: usize = 16 * 1024;

/// A name of a member, escapes included, that is longer is no link's.
const MAX_NAME: usize = 128;

/// How the names of links end: with the annotation's prefix, or another, or none (`odata.nextLink` in version 3).
const NAMES: [&str; 2] = ["nextlink", "deltalink"];

// === impl PublicUrl ===

impl PublicUrl {
    /// `url` is a scheme and an authority, such as `https://tollgate.example`.
    pub fn new(url: &str) -> Self {
        Self(url.into())
    }
}

// === impl LinkRewriter ===

impl LinkRewriter {
    pub(super) fn new(public: PublicUrl) -> Self {
        Self { public, state: State::Between, held: Vec::new() }
    }

    /// Takes the next piece of the answer and gives what may be passed on.
    pub(super) fn push(&mut self, piece: &Bytes) -> Result<Bytes, UnreadableLink> {
        let mut changed: Option<BytesMut> = None;
        // What lies before `passed` has been passed on or is held; `at` is where reading goes on.
        let (mut passed, mut at) = (0, 0);
        let between = |from: usize, to: usize| piece.get(from..to).unwrap_or_default();
        while at < piece.len() {
            let rest = between(at, piece.len());
            match self.state {
                State::Between => {
                    let Some(quote) = memchr(b'"', rest) else { break };
                    at += quote + 1;
                    self.held.clear();
                    self.state = State::Text;
                }
                State::Text => {
                    let end = memchr2(b'"', b'\\', rest);
                    self.name(between(at, at + end.unwrap_or(rest.len())));
                    let Some(end) = end else { break };
                    at += end + 1;
                    self.state = match rest.get(end) {
                        Some(b'"') if names_a_link(&self.held) => State::Named,
                        Some(b'"') => State::Between,
                        _backslash => {
                            self.name(b"\\");
                            State::TextEscape
                        }
                    };
                }
                State::TextEscape => {
                    self.name(between(at, at + 1));
                    at += 1;
                    self.state = State::Text;
                }
                State::Named | State::Expected => match (self.state, rest.first()) {
                    (_, Some(b' ' | b'\t' | b'\r' | b'\n')) => at += 1,
                    (State::Named, Some(b':')) => {
                        at += 1;
                        self.state = State::Expected;
                    }
                    (State::Expected, Some(b'"')) => {
                        let into = changed.get_or_insert_with(|| BytesMut::with_capacity(piece.len() + 256));
                        into.extend_from_slice(between(passed, at));
                        at += 1;
                        passed = at;
                        self.held.clear();
                        self.state = State::Link;
                    }
                    _other => self.state = State::Between,
                },
                State::Link => {
                    let end = memchr2(b'"', b'\\', rest);
                    self.link(between(at, at + end.unwrap_or(rest.len())))?;
                    let Some(end) = end else {
                        passed = piece.len();
                        break;
                    };
                    at += end + 1;
                    if rest.get(end) == Some(&b'\\') {
                        self.link(b"\\")?;
                        self.state = State::LinkEscape;
                    } else {
                        let into = changed.get_or_insert_with(|| BytesMut::with_capacity(piece.len() + 256));
                        into.extend_from_slice(&self.turned()?);
                        self.state = State::Between;
                    }
                    passed = at;
                }
                State::LinkEscape => {
                    self.link(between(at, at + 1))?;
                    at += 1;
                    passed = at;
                    self.state = State::Link;
                }
            }
        }
        Ok(match changed {
            None if passed == 0 => piece.clone(),
            None => piece.slice(passed..),
            Some(mut changed) => {
                changed.extend_from_slice(between(passed, piece.len()));
                changed.freeze()
            }
        })
    }

    /// The answer is over.
    pub(super) fn finish(&self) -> Result<(), UnreadableLink> {
        match self.state {
            State::Link | State::LinkEscape => Err(UnreadableLink::CutOff),
            State::Between | State::Text | State::TextEscape | State::Named | State::Expected => Ok(()),
        }
    }

    /// More of a name, of which one byte too many is kept at most.
    fn name(&mut self, more: &[u8]) {
        let room = (MAX_NAME + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(more.get(..room).unwrap_or(more));
    }

    /// More of a link.
    fn link(&mut self, more: &[u8]) -> Result<(), UnreadableLink> {
        if self.held.len() + more.len() > MAX_LINK {
            return Err(UnreadableLink::Long);
        }
        self.held.extend_from_slice(more);
        Ok(())
    }

    /// The link that was read, as a JSON string that leads to the gateway. A relative one leads there as it is.
    fn turned(&self) -> Result<Vec<u8>, UnreadableLink> {
        let link = unescaped(&self.held).ok_or(UnreadableLink::NotAString)?;
        // Browsers and their libraries read a backslash as a slash, and leave out what stands before the scheme.
        let start = link.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
        let slash = |c: char| matches!(c, '/' | '\\');
        let behind_scheme = start.split_once(':').filter(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        });
        let authority = match behind_scheme {
            Some((_, rest)) => Some(rest.trim_start_matches(slash)),
            None if start.starts_with(slash) && start.chars().nth(1).is_some_and(slash) => {
                Some(start.trim_start_matches(slash))
            }
            None => None,
        };
        let turned = authority.map(|authority| {
            let path = authority.find(|c| slash(c) || matches!(c, '?' | '#')).unwrap_or(authority.len());
            let path = authority.get(path..).unwrap_or_default();
            let root = if path.starts_with('/') { "" } else { "/" };
            format!("{}{root}{path}", self.public.0)
        });
        // A string can always be written.
        serde_json::to_vec(&turned.unwrap_or(link)).map_err(|_| UnreadableLink::NotAString)
    }
}

/// Whether a member of this name holds a link, its escapes resolved.
fn names_a_link(raw: &[u8]) -> bool {
    let ends = |name: &[u8]| {
        NAMES.iter().any(|end| {
            let tail = name.len().checked_sub(end.len()).and_then(|start| name.get(start..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
        })
    };
    raw.len() <= MAX_NAME
        && if raw.contains(&b'\\') {
            unescaped(raw).is_some_and(|name| ends(name.as_bytes()))
        } else {
            ends(raw)
        }
}

/// What a JSON string means, given without its quotation marks.
fn unescaped(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}

#[cfg(test)]
mod tests;
