//! Just enough of Rust's grammar to find the paths in a file.

use std::collections::BTreeSet;

/// The text with comments, strings and characters blanked, so that what is left is code.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip(rest, code.chars().next_back());
        if skipped > 0 {
            code.push(' ');
        } else {
            code.push(first);
        }
        rest = &rest[skipped.max(first.len_utf8())..];
    }
    code
}

/// The length of the comment, string or character that `rest` begins with; 0 if it begins with none.
fn skip(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    let to_end = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return to_end(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    // Raw strings, with a prefix that is not the end of a word.
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_word);
    let hashes = raw.map_or(0, |raw| raw.chars().take_while(|&c| c == '#').count());
    match raw.and_then(|raw| raw.get(hashes..)?.strip_prefix('"')) {
        Some(body) => {
            let end = format!("\"{}", "#".repeat(hashes));
            to_end(body.find(&end).map(|at| rest.len() - body.len() + at + end.len()))
        }
        None => 0,
    }
}

/// The length of a block comment; they nest.
fn comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a string with escapes, its quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character such as `'"'` or `'\n'`; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 0,
    }
}

/// Whether `word` stands in the code as a word of its own.
pub(super) fn says(code: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// The modules of the crate's root that the code names: behind `crate::` in the library, behind `tollgate::` in the
/// binary, braces and line breaks included.
pub(super) fn modules_used(code: &str) -> BTreeSet<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::");
    let mut modules = BTreeSet::new();
    for root in ["crate::", "tollgate::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            roots(&code[at + root.len()..], &mut modules);
        }
    }
    modules
}

/// Adds the first segments of the path or the braced list of paths that `rest` begins with.
fn roots(rest: &str, modules: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    let Some(list) = rest.strip_prefix('{') else {
        modules.insert(first_word(rest));
        return;
    };
    let mut depth = 0;
    let mut begins = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            ' ' => {}
            _ if begins => {
                modules.insert(first_word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
}

/// The identifier at the start, or the single character (`*`, `$`) that stands in its place.
fn first_word(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.chars().take(text[..end].chars().count().max(1)).collect()
}
