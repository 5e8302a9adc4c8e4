//! A path segment that calls a function, such as `findbyip(ip='{ip}',timestamp={time})`.

use crate::policy::route::{Captures, InvalidPath, Parameter, decode};

/// A function of a path: its name and the keys of its arguments in lower case, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    name: Box<str>,
    arguments: Vec<Argument>,
    parameters: Vec<Parameter>,
}

/// One argument, `key={parameter}` or `key='{parameter}'`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Argument {
    key: Box<str>,
    quotes: Quotes,
}

/// Whether quotes stand around a value. They do not belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Written `'{parameter}'`.
    Required,
    /// Written `{parameter}`: the API's pages leave them out in a template and put them in its example.
    Optional,
}

impl Function {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath::Segment(text.into());
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let (name, rest) = text.split_once('(').filter(|(name, _)| word(name)).ok_or_else(invalid)?;
        let list = rest.strip_suffix(')').ok_or_else(invalid)?;
        let (mut arguments, mut parameters) = (Vec::new(), Vec::new());
        for argument in list.split(',') {
            let (key, value) = argument.split_once('=').filter(|(key, _)| word(key)).ok_or_else(invalid)?;
            let (quotes, value) = match unquoted(value) {
                Some(inner) => (Quotes::Required, inner),
                None => (Quotes::Optional, value),
            };
            let name =
                value.strip_prefix('{').and_then(|value| value.strip_suffix('}')).ok_or_else(invalid)?;
            parameters.push(name.parse()?);
            arguments.push(Argument { key: key.to_ascii_lowercase().into(), quotes });
        }
        Ok(Self { name: name.to_ascii_lowercase().into(), arguments, parameters })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What each parameter names, from left to right.
    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether the same raw segments call both, whatever their parameters are called.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.arguments == other.arguments
    }

    /// Whether a raw segment calls it, with whatever arguments.
    pub(super) fn is_called_by(&self, segment: &str) -> bool {
        let name = segment.strip_suffix(')').and_then(|segment| segment.split_once('('));
        name.is_some_and(|(name, _)| name.eq_ignore_ascii_case(&self.name))
    }

    /// Takes the arguments of a raw segment that calls it; none if they are not exactly those that the template has,
    /// in its order, or if a value could be read in two ways.
    pub(super) fn capture<'r>(&self, segment: &'r str, captures: &mut Captures<'r>) -> Option<()> {
        let (_, list) = segment.strip_suffix(')')?.split_once('(')?;
        let mut given = list.split(',');
        for Argument { key, quotes } in &self.arguments {
            let (found, value) = given.next()?.split_once('=')?;
            if !found.eq_ignore_ascii_case(key) {
                return None;
            }
            let value = match (unquoted(value), quotes) {
                (Some(inner), Quotes::Required | Quotes::Optional) => inner,
                (None, Quotes::Optional) => value,
                (None, Quotes::Required) => return None,
            };
            let value = decode(value)?;
            // `@x` would be an alias, whose value stands in the query (OData 4.01, URL conventions, 5.1.1.13).
            if value.starts_with('@') || value.contains(['\'', '"', '(', ')', ',']) {
                return None;
            }
            captures.push(value);
        }
        given.next().is_none().then_some(())
    }
}

/// What stands between quotes; none if there are not two.
fn unquoted(value: &str) -> Option<&str> {
    value.strip_prefix('\'')?.strip_suffix('\'')
}
