//! A stream's fields and body, what is played on them, and which request stands in them by the letter of RFC 9113.

use std::collections::HashSet;
use std::fmt;

use super::super::{Seen, WORKSTATION};
use super::Dice;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, RST_STREAM, fields, frame,
};

type Field = (Vec<u8>, Vec<u8>);

/// Fields that make some server read another length, method, path or host, or two requests.
const FIELDS: &[(&str, &str)] = &[
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("transfer-encoding ", "chunked"),
    (" transfer-encoding", "chunked"),
    ("transfer-encoding:", "chunked"),
    ("transfer_encoding", "chunked"),
    ("Transfer-Encoding", "chunked"),
    ("content-length", "0"),
    ("content-length", "5, 5"),
    ("content-length", "+3"),
    ("content-length", "18446744073709551617"),
    ("content-length", " 7"),
    ("content-length ", "3"),
    ("content_length", "3"),
    ("x", "y\r\nTransfer-Encoding: chunked"),
    ("x", "y\r\nContent-Length: 0\r\n\r\nGET /api/machines?smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"),
    ("x", "y\nContent-Length: 0"),
    ("x", "y\rContent-Length: 0"),
    ("x", "\r\n\r\n"),
    ("x", "y\0"),
    ("x", "\u{b}y"),
    ("x", "\u{7f}"),
    ("x", "\u{ff}"),
    ("x", " y"),
    ("x", "y\t"),
    ("x", ""),
    ("x\r\ny", "z"),
    ("x: y\r\ntransfer-encoding", "chunked"),
    ("x:y", "z"),
    ("x y", "z"),
    ("x\0", "y"),
    ("", "y"),
    ("connection", "close"),
    ("connection", "host"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("upgrade", "h2c"),
    ("http2-settings", "AA"),
    ("te", "trailers"),
    ("te", "chunked"),
    ("trailer", "content-length"),
    ("expect", "100-continue"),
    ("host", "gateway"),
    ("host", "elsewhere"),
    ("host", "gateway\r\nx: y"),
    ("x-http-method-override", "DELETE"),
    ("x-original-url", "/api/alerts"),
    ("x-harmless", "yes"),
    ("cookie", "a=b"),
    (":path", "/api/alerts"),
    (":method", "DELETE"),
    (":authority", "elsewhere"),
    (":scheme", "http"),
    (":status", "200"),
    (":protocol", "websocket"),
];

/// Other values of the pseudo-headers; `{}` is the path that stood there.
const PATHS: &[&str] = &[
    "",
    "*",
    "/{}",
    "{} HTTP/1.1\r\nHost: gateway\r\n\r\nGET /api/machines?smuggled",
    "{}\r\nx: y",
    "{}\n",
    "{} ",
    "{}\0",
    "{}\u{e9}",
    "{}#x",
    "{}\\",
    "{}%0d%0a",
    "https://gateway{}",
    "//elsewhere{}",
    "/.{}",
    "/api/..{}",
    "/api%2f{}",
    "api{}",
];
const METHODS: &[&str] =
    &["GET", "POST", "HEAD", "get", "", "GE T", "GET /x HTTP/1.1\r\n\r\nGET", "CONNECT", "GET\0", "DELETE"];
const AUTHORITIES: &[&str] = &[
    "",
    "elsewhere",
    "user@gateway",
    "gateway:443",
    "gateway, elsewhere",
    "gateway/api",
    "gateway\r\nx: y",
    "[::1]",
];
const SCHEMES: &[&str] = &["http", "", "https://x/?", "ht tp", "HTTPS"];

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its last piece; without one, with its fields.
    Last,
    /// With an empty piece behind the last.
    Empty,
    /// With fields behind it.
    Trailers,
    /// It is reset before.
    Never,
}

/// What is sent on a stream.
pub(super) struct StreamCase {
    fields: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    end: End,
}

impl fmt::Display for StreamCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.fields.iter().filter(|(name, _)| name != b"authorization") {
            write!(f, "{}={} ", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, "{} {:?}", self.body.escape_ascii(), self.end)
    }
}

// === impl StreamCase ===

impl StreamCase {
    pub(super) fn new(number: u64, authorization: &str) -> Self {
        let mut dice = Dice::new(number);
        let mut case = Self::plain(&mut dice, number, authorization);
        for _ in 0..[0, 0, 1, 1, 2, 3][dice.below(6)] {
            case.trick(&mut dice);
        }
        case
    }

    /// One that passes; some have a request of HTTP/1.1 in their body.
    fn plain(dice: &mut Dice, number: u64, authorization: &str) -> Self {
        let smuggled = format!(
            "GET /api/machines?smuggled HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\r\n"
        );
        let text = match dice.below(3) {
            0 => format!("0\r\n\r\n{smuggled}"),
            1 => smuggled,
            _ => format!("a body of {number}"),
        };
        let json = serde_json::json!({ "Comment": text }).to_string();
        let (method, path, body) = match dice.below(4) {
            0 => ("GET", "/api/machines".to_owned(), String::new()),
            1 => ("GET", format!("/api/machines/{WORKSTATION}"), String::new()),
            2 => ("POST", "/api/indicators/import".to_owned(), json),
            _ => ("POST", "/api/libraryfiles".to_owned(), text),
        };
        let path = format!("{path}?{number}");
        let mut fields =
            vec![(":method", method), (":scheme", "https"), (":authority", "gateway"), (":path", &path)];
        fields.extend([("authorization", authorization), ("content-type", "application/json")]);
        let length = body.len().to_string();
        if dice.one_in(2) && method == "POST" {
            fields.push(("content-length", &length));
        }
        let fields = fields.into_iter().map(|(name, value)| field(name, value)).collect();
        let end = *dice.of(&[End::Last, End::Last, End::Empty, End::Trailers]);
        Self { fields, body: body.into_bytes(), trailers: vec![field("x-sum", "1")], end }
    }

    fn trick(&mut self, dice: &mut Dice) {
        let at = dice.below(self.fields.len());
        match dice.below(12) {
            0..=3 => {
                let (name, value) = *dice.of(FIELDS);
                let behind = self.fields.len();
                let at = if dice.one_in(3) { dice.below(behind + 1) } else { behind };
                self.fields.insert(at, field(name, value));
            }
            4 => self.set(":path", dice.of::<&str>(PATHS)),
            5 => match dice.below(3) {
                0 => self.set(":method", dice.of::<&str>(METHODS)),
                1 => self.set(":authority", dice.of::<&str>(AUTHORITIES)),
                _ => self.set(":scheme", dice.of::<&str>(SCHEMES)),
            },
            6 => match dice.below(3) {
                0 => drop(self.fields.remove(at)),
                1 => self.fields.swap(at, 0),
                _ => self.fields.push(self.fields[at].clone()),
            },
            7 => {
                let length = (self.body.len() + dice.below(80)).saturating_sub(40);
                self.fields.push(field("content-length", &length.to_string()));
            }
            8 => {
                let (name, value) = *dice.of(FIELDS);
                self.trailers.push(field(name, value));
                self.end = End::Trailers;
            }
            9 => self.end = End::Never,
            _ => {
                let (name, value) = &mut self.fields[at];
                let text = if dice.one_in(2) { name } else { value };
                let at = dice.below(text.len());
                match dice.below(3) {
                    0 => text.insert(at, *dice.of(b"\r\n\t \0:;,/%0a\x0b\x7f\x85\xff")),
                    _ if text.is_empty() => {}
                    1 => drop(text.remove(at)),
                    _ => text[at] ^= 1 << dice.below(8),
                }
            }
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Some((_, old)) = self.fields.iter_mut().find(|(given, _)| given == name.as_bytes()) {
            *old = value.replace("{}", &String::from_utf8_lossy(old)).into_bytes();
        }
    }

    /// Whether it comes to an end.
    pub(super) fn ends(&self) -> bool {
        self.end != End::Never
    }

    /// Its frames, cut where the dice say.
    pub(super) fn frames(&self, stream: u32, dice: &mut Dice) -> Vec<u8> {
        let bare = self.body.is_empty() && self.end == End::Last;
        let mut bytes = head(&self.fields, if bare { END_STREAM } else { 0 }, stream, dice);
        let mut rest = self.body.as_slice();
        while !rest.is_empty() {
            let length = if dice.one_in(2) { 1 + dice.below(rest.len()) } else { rest.len() };
            let (piece, behind) = rest.split_at(length);
            let last = if behind.is_empty() && self.end == End::Last { END_STREAM } else { 0 };
            bytes.extend(match dice.below(4) {
                0 => frame(DATA, last | PADDED, stream, &[&[3], piece, &[0; 3]].concat()),
                _ => frame(DATA, last, stream, piece),
            });
            rest = behind;
        }
        match self.end {
            End::Last => {}
            End::Empty => bytes.extend(frame(DATA, END_STREAM, stream, b"")),
            End::Trailers => bytes.extend(head(&self.trailers, END_STREAM, stream, dice)),
            End::Never => bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())),
        }
        bytes
    }

    /// The request that stands here, if it is plain and whole.
    pub(super) fn request(&self) -> Option<Seen> {
        let pseudo = self.fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
        let (pseudo, plain) = self.fields.split_at(pseudo);
        let one = |name: &str| {
            let mut named = pseudo.iter().filter(|(given, _)| given == name.as_bytes());
            let (_, value) = named.next()?;
            named.next().is_none().then(|| String::from_utf8(value.clone()).ok())?
        };
        let (method, mut path, _) = (one(":method")?, one(":path")?, one(":scheme")?);
        // A fragment is cut off by whoever reads it first, before anything is decided.
        path.truncate(path.find('#').unwrap_or(path.len()));
        let known = |name: &[u8]| [&b":method"[..], b":scheme", b":authority", b":path"].contains(&name);
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !pseudo.iter().all(|(name, _)| known(name)) || !plain.iter().all(is_plain) {
            return None;
        }
        let values = |name: &str| {
            plain
                .iter()
                .filter(|(given, _)| given == name.as_bytes())
                .map(|(_, value)| value.as_slice())
                .collect::<Vec<_>>()
        };
        let authorities =
            pseudo.iter().filter(|(name, _)| name == b":authority").map(|(_, value)| value.as_slice());
        let hosts: HashSet<_> = authorities.clone().chain(values("host")).collect();
        let length = self.body.len().to_string();
        let sized = match values("content-length").as_slice() {
            [] => true,
            [one] => *one == length.as_bytes(),
            _ => false,
        };
        let lawful = visible(&method)
            && visible(&path)
            && path.starts_with('/')
            && hosts.len() == 1
            && authorities.count() < 2;
        // Trailers go no further, whatever they say.
        (lawful && sized && self.ends()).then(|| Seen { method, target: path, body: self.body.clone() })
    }

    /// Its fields as the API may see them.
    pub(super) fn texts(&self) -> HashSet<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }
}

fn field(name: &str, value: &str) -> Field {
    // What is no text in a request is one byte a character.
    let bytes = |text: &str| text.chars().map(|char| u8::try_from(char).unwrap()).collect();
    (bytes(name), bytes(value))
}

/// Whether it is a field that a request may have, and by the name of which nothing is meant between two hops.
fn is_plain((name, value): &Field) -> bool {
    let hop = [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    let token =
        |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"!#$%&'*+-.^_`|~".contains(byte);
    let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    !name.is_empty()
        && name.iter().all(token)
        && value.iter().all(text)
        && value.trim_ascii() == value
        && !hop.contains(&name.as_slice())
        && (name != b"te" || value == b"trailers")
}

/// A header block in one frame or several.
fn head(all: &[Field], flags: u8, stream: u32, dice: &mut Dice) -> Vec<u8> {
    let block = fields(all);
    if !dice.one_in(4) {
        return frame(HEADERS, flags | END_HEADERS, stream, &block);
    }
    let (first, rest) = block.split_at(dice.below(block.len()));
    [frame(HEADERS, flags, stream, first), frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
}
