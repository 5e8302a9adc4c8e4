//! What answers say of machine actions: which of them have ended.
//!
//! An answer that shows actions is one of them, or a list of up to ten thousand. It is read as it streams past, and
//! nothing of it is held back: of each object that is open at the moment its `id` and `status` are kept, and of the
//! string that is being read as much as could be one of those.

use memchr::memchr2;
use smallvec::SmallVec;

use crate::id::ActionId;

/// Finds the actions that have ended in one answer in JSON, however it is cut into pieces.
///
/// It reads objects, their members and strings, and no more of JSON: what else there is has no bearing on them. An
/// object with an `id` and a final `status` of its own is an action that has ended. Of an answer that is not JSON it
/// finds what looks like one.
#[derive(Debug, Default)]
pub(super) struct StatusReader {
    /// The containers that are open, the outermost first.
    open: SmallVec<[Container; 4]>,
    /// How many more are open within them.
    deeper: usize,
    /// The string that is being read, without its quotation marks, up to [`MAX_TEXT`] bytes and one.
    text: Option<Text>,
}

#[derive(Debug)]
enum Container {
    List,
    Object(Object),
}

/// An object as far as it has been read.
#[derive(Debug, Default)]
struct Object {
    place: Place,
    id: Option<ActionId>,
    has_ended: bool,
}

/// Where in an object the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Before the name of a member, or behind it.
    #[default]
    Name,
    /// Behind the colon of a member of this name.
    Value(Member),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Member {
    Id,
    Status,
    #[default]
    Other,
}

#[derive(Debug, Default)]
struct Text {
    bytes: SmallVec<[u8; 64]>,
    /// Whether its last byte is a backslash that makes another byte mean something else.
    escape: bool,
}

/// The longest string that is looked at: an id has up to 64 characters, and any of them may be written as `\u0000`.
const MAX_TEXT: usize = 6 * 64;

/// The most containers that are looked into: an action in a list lies in three.
const MAX_DEPTH: usize = 8;

/// The statuses of an action that nothing follows (*MachineAction resource type*, `machineaction.md`).
const FINAL: [&str; 4] = ["Succeeded", "Failed", "TimeOut", "Cancelled"];

/// Whether a status is one that nothing follows.
pub(super) fn is_final(status: &str) -> bool {
    FINAL.contains(&status)
}

// === impl StatusReader ===

impl StatusReader {
    /// Reads the next piece of the answer, and tells of each action that has ended.
    pub(super) fn push(&mut self, piece: &[u8], mut ended: impl FnMut(&ActionId)) {
        let mut rest = piece;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.text.is_some() {
                rest = self.text(rest);
                continue;
            }
            rest = behind;
            match byte {
                b'"' => self.text = Some(Text::default()),
                b'{' => self.begin(Container::Object(Object::default())),
                b'[' => self.begin(Container::List),
                b'}' | b']' => self.end(&mut ended),
                b',' => self.comma(),
                _other => {}
            }
        }
    }

    /// More of a string; gives what lies behind what was read.
    fn text<'p>(&mut self, rest: &'p [u8]) -> &'p [u8] {
        let Some(text) = &mut self.text else { return rest };
        if text.escape {
            text.escape = false;
            let (now, behind) = rest.split_at_checked(1).unwrap_or((rest, &[]));
            text.put(now);
            return behind;
        }
        let Some(end) = memchr2(b'"', b'\\', rest) else {
            text.put(rest);
            return &[];
        };
        let (before, from) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        text.put(before);
        let (stop, behind) = from.split_at_checked(1).unwrap_or((from, &[]));
        if stop == b"\\" {
            text.put(stop);
            text.escape = true;
        } else {
            let text = self.text.take().unwrap_or_default();
            self.string(&text);
        }
        behind
    }

    /// A string is over.
    fn string(&mut self, text: &Text) {
        if self.deeper > 0 {
            return;
        }
        let Some(Container::Object(object)) = self.open.last_mut() else { return };
        match object.place {
            Place::Name => {
                let member = match text.meaning().as_deref() {
                    Some("id") => Member::Id,
                    Some("status") => Member::Status,
                    Some(_) | None => Member::Other,
                };
                object.place = Place::Value(member);
            }
            Place::Value(Member::Id) => object.id = text.meaning().and_then(|id| ActionId::parse(&id)),
            Place::Value(Member::Status) => {
                object.has_ended = text.meaning().is_some_and(|status| is_final(&status));
            }
            Place::Value(Member::Other) => {}
        }
    }

    fn begin(&mut self, container: Container) {
        if self.deeper > 0 || self.open.len() == MAX_DEPTH {
            self.deeper += 1;
        } else {
            self.open.push(container);
        }
    }

    fn end(&mut self, ended: &mut impl FnMut(&ActionId)) {
        if self.deeper > 0 {
            self.deeper -= 1;
        } else if let Some(Container::Object(Object { id: Some(id), has_ended: true, .. })) = self.open.pop()
        {
            ended(&id);
        }
    }

    fn comma(&mut self) {
        if self.deeper == 0
            && let Some(Container::Object(object)) = self.open.last_mut()
        {
            object.place = Place::Name;
        }
    }
}

// === impl Text ===

impl Text {
    fn put(&mut self, more: &[u8]) {
        let room = (MAX_TEXT + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(more.get(..room).unwrap_or(more));
    }

    /// What it means, its escapes resolved; none if it is too long to be looked at, or no string.
    fn meaning(&self) -> Option<String> {
        if self.bytes.len() > MAX_TEXT {
            return None;
        }
        serde_json::from_slice(&[b"\"", &*self.bytes, b"\""].concat()).ok()
    }
}

#[cfg(test)]
mod tests;
