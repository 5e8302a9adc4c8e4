//! Which operation a request line asks for.
//!
//! The table is a tree of path segments. A literal segment is taken before a function, such as `find(key={key})`, and
//! that before a parameter, and taking one is final: a request that fails further down has no operation, since the API
//! would read it the same way.

use std::borrow::Cow;
use std::str::FromStr;

use http::Method;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

mod function;

use function::Function;

/// A path of `operations.toml`: literal segments in lower case, functions, and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Function(Function),
    Parameter(Parameter),
}

/// What a parameter of a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// `{device}`.
    Device,
    /// `{action}`.
    Action,
    /// Any other name: nothing that a device group could bind.
    Other,
}

/// A path that no operation can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    #[error("`{0}` does not begin with `/`")]
    Relative(String),
    #[error("`{0}` has an empty segment, or a `/` at its end")]
    EmptySegment(String),
    #[error(
        "the segment `{0}` is neither a parameter such as `{{device}}`, nor a function such as `find(key={{key}})`, nor made of letters, digits and `-._~!$&'()*+,=:@`"
    )]
    Segment(String),
    #[error(
        "the parameter `{{{0}}}` could be a device or an action: write `{{device}}`, `{{action}}`, or a name that begins with neither these words nor `machine` and is not `id`"
    )]
    Ambiguous(String),
    #[error("a path names at most one `{{device}}` and one `{{action}}`")]
    Repeated,
}

/// Every operation's path, by method. `T` is what a path leads to.
#[derive(Debug)]
pub(crate) struct RouteTable<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    /// Lower case. Few enough (about 30 under `/api/machines`) that comparing lengths beats hashing.
    literals: Vec<(Box<str>, Node<T>)>,
    /// INVARIANT: no two have the same name.
    functions: Vec<(Function, Node<T>)>,
    parameter: Option<Box<Node<T>>>,
    ends: Vec<(Method, T)>,
}

/// The parameters of a request path, decoded, from left to right.
pub(crate) type Captures<'r> = SmallVec<[Cow<'r, str>; 2]>;

// === impl PathTemplate ===

impl PathTemplate {
    /// What each parameter names, from left to right.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = Parameter> {
        self.segments
            .iter()
            .flat_map(|segment| match segment {
                Segment::Literal(_) => &[],
                Segment::Function(function) => function.parameters(),
                Segment::Parameter(parameter) => std::slice::from_ref(parameter),
            })
            .copied()
    }

    fn count(&self, wanted: Parameter) -> usize {
        self.parameters().filter(|parameter| *parameter == wanted).count()
    }
}

impl FromStr for PathTemplate {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let path = text.strip_prefix('/').ok_or_else(|| InvalidPath::Relative(text.into()))?;
        if path.split('/').any(str::is_empty) {
            return Err(InvalidPath::EmptySegment(text.into()));
        }
        let segments = segments(path).map(Segment::from_str).collect::<Result<_, _>>()?;
        let template = Self { segments };
        if template.count(Parameter::Device) > 1 || template.count(Parameter::Action) > 1 {
            return Err(InvalidPath::Repeated);
        }
        Ok(template)
    }
}

impl FromStr for Segment {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath::Segment(text.into());
        if let Some(name) = text.strip_prefix('{') {
            return name.strip_suffix('}').ok_or_else(invalid)?.parse().map(Self::Parameter);
        }
        if text.contains('{') {
            return Function::parse(text).map(Self::Function);
        }
        if !text.bytes().all(plain) || text == "." || text == ".." {
            return Err(invalid());
        }
        Ok(Self::Literal(text.to_ascii_lowercase().into()))
    }
}

impl FromStr for Parameter {
    type Err = InvalidPath;

    fn from_str(name: &str) -> Result<Self, InvalidPath> {
        match name {
            "device" => return Ok(Self::Device),
            "action" => return Ok(Self::Action),
            other
                if other.is_empty()
                    || !other.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') =>
            {
                return Err(InvalidPath::Segment(format!("{{{other}}}")));
            }
            other => other,
        };
        // A slip here would take a call out of every device group, so what looks like one is refused.
        if name == "id" || ["device", "machine", "action"].iter().any(|word| name.starts_with(word)) {
            return Err(InvalidPath::Ambiguous(name.into()));
        }
        Ok(Self::Other)
    }
}

/// RFC 3986, `pchar`, without `%` and `;`: what no server decodes or cuts off.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

/// The segments of a path without its first `/`; `/api/v1.0/…` is the same as `/api/…`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path.split('/');
    let first = rest.next();
    let second = match (first, rest.next()) {
        (Some(api), Some(version))
            if api.eq_ignore_ascii_case("api") && version.eq_ignore_ascii_case("v1.0") =>
        {
            None
        }
        (_, second) => second,
    };
    first.into_iter().chain(second).chain(rest)
}

// === impl RouteTable ===

impl<T: Copy> RouteTable<T> {
    pub(crate) fn new() -> Self {
        Self { root: Node::new() }
    }

    /// Adds a path. If a request could ask for both this one and one that is there, that one's end is the error.
    pub(crate) fn insert(&mut self, method: &Method, path: &PathTemplate, end: T) -> Result<(), T> {
        let mut node = &mut self.root;
        for segment in &path.segments {
            node = match segment {
                Segment::Literal(text) => node.literal_mut(text),
                Segment::Function(function) => node.function_mut(function)?,
                Segment::Parameter(_) => node.parameter.get_or_insert_with(|| Box::new(Node::new())),
            };
        }
        if let Some((_, taken)) = node.ends.iter().find(|(taken, _)| taken == method) {
            return Err(*taken);
        }
        node.ends.push((method.clone(), end));
        Ok(())
    }

    /// What a raw request target leads to, with the parameters of its path.
    pub(crate) fn find<'r>(&self, method: &Method, target: &'r str) -> Option<(T, Captures<'r>)> {
        let path = target.split('?').next()?.strip_prefix('/')?;
        let mut node = &self.root;
        let mut captures = Captures::new();
        for segment in segments(path) {
            node = match node.literal(segment) {
                Some(child) => child,
                None => match node.function(segment) {
                    Some((function, child)) => {
                        function.capture(segment, &mut captures)?;
                        child
                    }
                    None => {
                        let child = node.parameter.as_deref()?;
                        let value = decode(segment)?;
                        // An encoded literal or function: the API would decode it and take that one's way.
                        if node.literal(&value).is_some() || node.function(&value).is_some() {
                            return None;
                        }
                        captures.push(value);
                        child
                    }
                },
            };
        }
        let (_, end) = node.ends.iter().find(|(taken, _)| taken == method)?;
        Some((*end, captures))
    }
}

// === impl Node ===

impl<T: Copy> Node<T> {
    fn new() -> Self {
        Self { literals: Vec::new(), functions: Vec::new(), parameter: None, ends: Vec::new() }
    }

    fn literal(&self, segment: &str) -> Option<&Self> {
        let (_, child) = self.literals.iter().find(|(text, _)| text.eq_ignore_ascii_case(segment))?;
        Some(child)
    }

    fn literal_mut(&mut self, text: &str) -> &mut Self {
        // Placed at the end or found: either way the last step borrows exactly one child.
        let at = self.literals.iter().position(|(taken, _)| &**taken == text).unwrap_or(self.literals.len());
        if at == self.literals.len() {
            self.literals.push((text.into(), Self::new()));
        }
        #[expect(clippy::indexing_slicing, reason = "`at` was found in the list, or is the one just pushed")]
        &mut self.literals[at].1
    }

    /// The function that a raw segment calls, whatever its arguments.
    fn function(&self, segment: &str) -> Option<(&Function, &Self)> {
        let (function, child) = self.functions.iter().find(|(function, _)| function.is_called_by(segment))?;
        Some((function, child))
    }

    /// The child of a function. One of the same name with other arguments can't stand beside it: then an end of that
    /// one is the error.
    fn function_mut(&mut self, function: &Function) -> Result<&mut Self, T> {
        let mut at = self.functions.iter().position(|(taken, _)| taken.name() == function.name());
        if let Some(place) = at
            && let Some((_, child)) = self.functions.get(place).filter(|(taken, _)| !taken.is_same(function))
        {
            if let Some(end) = child.any_end() {
                return Err(end);
            }
            // Nothing leads on from it: its own path was refused further on.
            self.functions.remove(place);
            at = None;
        }
        let at = at.unwrap_or(self.functions.len());
        if at == self.functions.len() {
            self.functions.push((function.clone(), Self::new()));
        }
        #[expect(clippy::indexing_slicing, reason = "`at` was found in the list, or is the one just pushed")]
        Ok(&mut self.functions[at].1)
    }

    fn any_end(&self) -> Option<T> {
        let literals = self.literals.iter().map(|(_, child)| child);
        let children = literals.chain(self.functions.iter().map(|(_, child)| child));
        let here = self.ends.first().map(|(_, end)| *end);
        here.or_else(|| children.chain(self.parameter.as_deref()).find_map(Self::any_end))
    }
}

/// A parameter's value, percent-decoded once; none if it is empty, not UTF-8, or could be read as anything but one
/// plain segment.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    // Most are an id or a name, which says what it says.
    let simple = |found, byte: u8| found & (byte.is_ascii_alphanumeric() | (byte == b'-'));
    if !segment.is_empty() && segment.bytes().fold(true, simple) {
        return Some(segment.into());
    }
    let value = percent_decode_str(segment).decode_utf8().ok()?;
    let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%' | ';' | '?' | '#');
    let plain = !value.is_empty() && value != "." && value != ".." && !value.contains(forbidden);
    plain.then_some(value)
}

#[cfg(test)]
mod tests;
