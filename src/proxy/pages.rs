//! Answers that may come in pages: what the upstream is asked for, and what becomes of its answer.
//!
//! Any GET may: the API names the next page of a list in the answer's body, and no list is known beforehand that has
//! none. Only JSON is read, and only if Tollgate knows by which address clients find it.

use http::{HeaderMap, Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};

use super::links::{LinkRewriter, PublicUrl, UnreadableLink};

/// What Pingora's error says of an answer whose links cannot be read.
pub(super) const UNREADABLE: ErrorType = ErrorType::Custom("unreadable answer");

/// Has the upstream answer a call so that its links can be read: not compressed, and whole.
pub(super) fn ask(request: &mut RequestHeader) -> pingora::Result<()> {
    if request.method == Method::GET {
        request.insert_header(header::ACCEPT_ENCODING, "identity")?;
        // A link that begins in one part and ends in another would be read in neither.
        request.remove_header(&header::RANGE);
        request.remove_header(&header::IF_RANGE);
    }
    Ok(())
}

/// What reads the answer to a request, if it may name another page. Its length is then not known beforehand.
///
/// # Errors
/// If it is encoded all the same.
pub(super) fn reader(
    public: &PublicUrl,
    request: &RequestHeader,
    response: &mut ResponseHeader,
) -> pingora::Result<Option<LinkRewriter>> {
    if request.method != Method::GET || !response.status.is_success() || !may_be_json(&response.headers) {
        return Ok(None);
    }
    if !is_plain(&response.headers) {
        return Err(unreadable("its content coding or character set was not asked for"));
    }
    if response.remove_header(&header::CONTENT_LENGTH).is_some() {
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(Some(LinkRewriter::new(public.clone())))
}

pub(super) fn unlinkable(error: UnreadableLink) -> Box<Error> {
    unreadable(&error.to_string())
}

fn unreadable(why: &str) -> Box<Error> {
    let mut error = Error::explain(UNREADABLE, why.to_owned());
    error.as_up();
    error
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!values.is_empty()).then(|| values.join(",").to_ascii_lowercase())
}

/// Whether clients may take it for JSON: some do not look at the type.
fn may_be_json(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE).is_none_or(|media| media.contains("json") || media.contains("text/"))
}

/// Whether it is text as it stands: in UTF-8, which JSON is where nothing else is said, and not compressed.
fn is_plain(headers: &HeaderMap) -> bool {
    let charset = text(headers, header::CONTENT_TYPE).and_then(|media| {
        let (_, charset) = media.split_once("charset=")?;
        charset.split(';').next().map(|charset| charset.trim().trim_matches('"').to_owned())
    });
    text(headers, header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
        && charset.is_none_or(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
}
