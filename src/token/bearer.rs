//! Exactly one bearer token in a request, in the one place where it belongs (RFC 6750, sections 2 and 3.1).

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use crate::outcome::ReasonCode;

/// The token of a request, as it was sent and not verified. Printing it for debugging shows its length only.
#[derive(Clone, Copy)]
pub struct BearerToken<'a>(&'a str);

/// A request without exactly one bearer token in its `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// No `Authorization` header, or one of another scheme.
    #[error("the request carries no bearer token: send `Authorization: Bearer` and a token")]
    NoToken,
    /// Two `Authorization` headers, or a bearer token and another in the query.
    #[error("the request carries more than one credential: send one `Authorization` header and nothing else")]
    TwoTokens,
    /// `Bearer` without a token, or with something that can't be one.
    #[error("the `Authorization` header is not `Bearer`, a space, and one token")]
    BadAuthorization,
    /// `access_token` in the query, where logs of every hop would keep it.
    #[error("a token in the query is not accepted: send it in the `Authorization` header")]
    TokenInQuery,
}

/// The query parameter of RFC 6750, section 2.3.
const QUERY_PARAMETER: &[u8] = b"access_token";

// === impl BearerToken ===

impl<'a> BearerToken<'a> {
    /// Finds the token among the headers of a request and makes sure that there is no other in `query`, the part
    /// of the request target after `?`.
    pub fn find(headers: &'a HeaderMap, query: Option<&str>) -> Result<Self, BearerError> {
        let mut credentials = headers.get_all(AUTHORIZATION).iter();
        let first = credentials.next();
        if credentials.next().is_some() {
            return Err(BearerError::TwoTokens);
        }
        let credentials = first.and_then(|value| bearer_credentials(value.as_bytes()));
        match (credentials, token_in_query(query)) {
            (Some(_), Some(TokenInQuery)) => Err(BearerError::TwoTokens),
            (None, Some(TokenInQuery)) => Err(BearerError::TokenInQuery),
            (None, None) => Err(BearerError::NoToken),
            (Some(credentials), None) => Self::parse(credentials).ok_or(BearerError::BadAuthorization),
        }
    }

    /// The token's characters, for the eyes of this room only.
    pub(super) fn as_str(&self) -> &'a str {
        self.0
    }

    /// Reads what follows the scheme: `1*SP b64token`.
    fn parse(credentials: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(credentials.strip_prefix(b" ")?).ok()?;
        let token = text.trim_start_matches(' ');
        let body = token.trim_end_matches('=');
        // Looks at every byte, whatever the ones before were, and by few ranges: so the compiler can look at many of them
        // at once. `-` to `9` are the marks `-`, `.` and `/`, and the digits.
        let allowed = |byte: u8| {
            let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
            letter
                | (byte.wrapping_sub(b'-') <= b'9' - b'-')
                | (byte == b'_')
                | (byte == b'~')
                | (byte == b'+')
        };
        let all_allowed = body.bytes().fold(true, |all, byte| all & allowed(byte));
        (!body.is_empty() && all_allowed).then_some(Self(token))
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({} bytes)", self.0.len())
    }
}

/// What follows the scheme `Bearer`, in any case; none if the scheme is another.
fn bearer_credentials(value: &[u8]) -> Option<&[u8]> {
    let scheme =
        value.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)).count();
    let (scheme, rest) = value.split_at_checked(scheme)?;
    scheme.eq_ignore_ascii_case(b"Bearer").then_some(rest)
}

/// That the query has the parameter, with a value or without.
struct TokenInQuery;

/// Looks for the parameter, however its name is spelled: some servers ignore its case, decode it, or split at `;`.
fn token_in_query(query: Option<&str>) -> Option<TokenInQuery> {
    query?
        .split(['&', ';'])
        .map(|parameter| parameter.split_once('=').map_or(parameter, |(name, _)| name))
        .any(|name| Vec::from_iter(percent_decode_str(name)).eq_ignore_ascii_case(QUERY_PARAMETER))
        .then_some(TokenInQuery)
}

// === impl BearerError ===

impl BearerError {
    /// The reason by which the answer, the metrics and the audit know it.
    pub fn reason(self) -> ReasonCode {
        match self {
            Self::NoToken => ReasonCode::NoToken,
            Self::TwoTokens => ReasonCode::TwoTokens,
            Self::BadAuthorization => ReasonCode::BadAuthorization,
            Self::TokenInQuery => ReasonCode::TokenInQuery,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(authorization: &[&str], query: Option<&str>) -> Result<String, BearerError> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        BearerToken::find(&headers, query).map(|token| token.as_str().to_owned())
    }

    #[test]
    fn one_bearer_token_is_found_with_the_scheme_in_any_case() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "bEaReR   a.b.c"] {
            assert_eq!(find(&[header], Some("$top=5&token=x")).as_deref(), Ok("a.b.c"), "{header}");
        }
        assert_eq!(find(&["Bearer a-._~+/9=="], None).as_deref(), Ok("a-._~+/9=="));
    }

    #[test]
    fn no_header_or_another_scheme_is_no_token() {
        for headers in
            [&[][..], &["Basic dXNlcjpwYXNz"], &["Bearerx a.b.c"], &["Negotiate"], &[""], &["a.b.c"]]
        {
            assert_eq!(find(headers, None), Err(BearerError::NoToken), "{headers:?}");
        }
    }

    #[test]
    fn bearer_with_anything_but_one_token_is_a_bad_authorization() {
        for header in [
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "Bearer a b",
            "Bearer a.b.c ",
            "Bearer a.b.c, Bearer d.e.f",
            "Bearer\ta.b.c",
            "Bearer,a.b.c",
            "Bearer =",
            "Bearer a=b",
            "Bearer \"a.b.c\"",
            "Bearer ä.b.c",
        ] {
            assert_eq!(find(&[header], None), Err(BearerError::BadAuthorization), "{header}");
        }
    }

    #[test]
    fn two_credentials_are_refused_whatever_they_are() {
        assert_eq!(find(&["Bearer a", "Bearer a"], None), Err(BearerError::TwoTokens));
        assert_eq!(find(&["Bearer a", "Basic b"], None), Err(BearerError::TwoTokens));
        assert_eq!(find(&["Bearer a"], Some("access_token=b")), Err(BearerError::TwoTokens));
        assert_eq!(find(&["Bearer"], Some("access_token=b")), Err(BearerError::TwoTokens));
    }

    #[test]
    fn a_token_in_the_query_is_refused_however_its_name_is_spelled() {
        for query in [
            "access_token=a",
            "x=1&Access_Token=a",
            "access%5Ftoken=a",
            "%61ccess_token=a",
            "access_token",
            "x=1;access_token=a",
        ] {
            assert_eq!(find(&[], Some(query)), Err(BearerError::TokenInQuery), "{query}");
            assert_eq!(find(&["Basic x"], Some(query)), Err(BearerError::TokenInQuery), "{query}");
        }
        assert_eq!(find(&[], Some("my_access_token=a&x=access_token")), Err(BearerError::NoToken));
    }

    #[test]
    fn a_token_is_never_printed() {
        assert_eq!(format!("{:?}", BearerToken("secret")), "BearerToken(6 bytes)");
    }
}
