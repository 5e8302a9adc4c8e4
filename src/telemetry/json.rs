//! JSON strings, written where most are ids and words that need no escape.

/// Writes a text as a JSON string to the end of `bytes`, whatever is in it.
pub(crate) fn push_string(bytes: &mut Vec<u8>, text: &str) {
    // Without a branch, so that many bytes are compared at a time (RFC 8259, section 7: what must be escaped).
    let escapes = |found, &byte: &u8| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if text.as_bytes().iter().fold(false, escapes) {
        // Writing a text into memory can't fail.
        let _ = serde_json::to_writer(bytes, text);
    } else {
        push_plain(bytes, text);
    }
}

/// Writes a text in which nothing needs an escape.
pub(crate) fn push_plain(bytes: &mut Vec<u8>, text: &str) {
    bytes.reserve(text.len() + 2);
    bytes.push(b'"');
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'"');
}
