//! Heads, byte for byte, and what is wrong with them.

use super::*;

/// A head with this request line and these lines of fields after `Host`.
fn head(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\nHost: gateway\r\n{fields}\r\n").into_bytes()
}

fn line(line: &str) -> Result<Framing, Denial> {
    check_bytes(&head(line, ""))
}

fn get(target: &str) -> Result<Framing, Denial> {
    line(&format!("GET {target} HTTP/1.1"))
}

fn fields(fields: &str) -> Result<Framing, Denial> {
    check_bytes(&head("GET /api HTTP/1.1", fields))
}

/// The same fields as HTTP/2 has them.
fn request(target: &[u8]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", target, None).unwrap();
    request.insert_header("Host", "gateway").unwrap();
    request
}

const NO_BODY: Result<Framing, Denial> = Ok(Framing::Length(0));

#[test]
fn a_path_that_could_be_read_as_another_is_refused() {
    for target in [
        "//api",
        "/api//machines",
        "/api/./x",
        "/api/../x",
        "/a/..",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%00",
        "/%2e%2e/x",
        "/a\\b",
        "/a%25",
        "/a%zz",
        "/a%4",
    ] {
        assert_eq!(get(target), Err(Malformed::Path.into()), "{target}");
        assert_eq!(check(&request(target.as_bytes())), Err(Malformed::Path.into()), "{target}");
    }
    for target in [
        "/",
        "/api/machines/PC-1.contoso.com",
        "/api/machines/a%20b",
        "/api/machines/",
        "/api/machines?$filter=a//b%2f",
    ] {
        assert_eq!(get(target), NO_BODY, "{target}");
        assert_eq!(check(&request(target.as_bytes())), Ok(()), "{target}");
    }
}

#[test]
fn a_target_that_is_not_a_path_is_refused() {
    for target in ["*", "http://gateway/api", "/ä", "/a#b", "/a?b#c", "?a", "/a\tb", "/a\x7f", "/a\0", "api"]
    {
        assert_eq!(get(target), Err(Malformed::Target.into()), "{target}");
    }
}

#[test]
fn a_request_line_is_three_words_with_one_space_between_them() {
    for line_ in [
        "",
        "GET",
        "GET /api",
        "GET /api ",
        "GET /api HTTP/1.1 ",
        "GET /api HTTP/1.1 HTTP/1.1",
        "GET /api HTTP/0.9",
        "GET /api HTTP/1.2",
        "GET /api HTTP/2.0",
        "GET /api http/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/api HTTP/1.1",
        " /api HTTP/1.1",
        "G(T /api HTTP/1.1",
        "GÄT /api HTTP/1.1",
        "CONNECT gateway:80 HTTP/1.1",
        "AMETHODOFMORETHAN24LETTERS /api HTTP/1.1",
    ] {
        assert_eq!(line(line_), Err(Malformed::RequestLine.into()), "{line_}");
    }
    assert_eq!(line("GET  /api HTTP/1.1"), Err(Malformed::Target.into()));
    assert_eq!(line("GET /api HTTP/1.0"), NO_BODY);
    assert_eq!(line("M-SEARCH /api HTTP/1.1"), NO_BODY);
}

#[test]
fn a_field_is_a_name_a_colon_and_text() {
    for wrong in ["X : y", "X\t: y", ": y", "X", " X: y", "\tfolded", "X: a\r\n b", "Ä: y", "X(: y"] {
        assert_eq!(fields(&format!("{wrong}\r\n")), Err(Malformed::Field.into()), "{wrong}");
    }
    for control in (0..32).chain([127]).filter(|byte| ![b'\t', b'\n'].contains(byte)) {
        let mut head = head("GET /api HTTP/1.1", "X: a.b\r\n");
        let at = head.windows(3).position(|window| window == b"a.b").unwrap();
        head[at + 1] = control;
        assert_eq!(check_bytes(&head), Err(Malformed::Field.into()), "{control}");
    }
    for right in ["X:", "X:y", "X:  y  ", "X: a\tb", "!#$%&'*+-.^_`|~0: y", "X: ä"] {
        assert_eq!(fields(&format!("{right}\r\n")), NO_BODY, "{right}");
    }
}

#[test]
fn a_line_ends_in_cr_and_lf() {
    for head in [
        "GET / HTTP/1.1\nHost: gateway\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: gateway\n\r\n",
        "GET / HTTP/1.1\r\nHost: gateway\r\n\n",
        "GET / HTTP/1.1\r\nHost: gateway\r\n",
        "GET / HTTP/1.1\r\nHost: gateway\r\n\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1",
        "",
    ] {
        assert_eq!(check_bytes(head.as_bytes()), Err(Malformed::Lines.into()), "{head:?}");
    }
}

#[test]
fn a_request_has_one_host_and_no_second_opinion_on_its_method() {
    for host in ["", "user@gateway", "gateway/x", "a, b", "a b", "gateway?x"] {
        let head = format!("GET /api HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(check_bytes(head.as_bytes()), Err(Malformed::Host.into()), "{host}");
    }
    for host in ["gateway", "gateway:8443", "[::1]:80", "a_b.example"] {
        let head = format!("GET /api HTTP/1.1\r\nHOST:{host}\r\n\r\n");
        assert_eq!(check_bytes(head.as_bytes()), NO_BODY, "{host}");
    }
    assert_eq!(check_bytes(b"GET /api HTTP/1.1\r\n\r\n"), Err(Malformed::Host.into()));
    assert_eq!(fields("host: gateway\r\n"), Err(Malformed::Host.into()));
    for name in OVERRIDES {
        assert_eq!(fields(&format!("{}: DELETE\r\n", name.to_uppercase())), Err(Malformed::Override.into()));
        let mut request = request(b"/api");
        request.insert_header(name, "DELETE").unwrap();
        assert_eq!(check(&request), Err(Malformed::Override.into()), "{name}");
    }
    let mut two = request(b"/api");
    two.append_header("Host", "other").unwrap();
    assert_eq!(check(&two), Err(Malformed::Host.into()));
}

#[test]
fn the_end_of_a_body_is_said_once_and_plainly() {
    let table: &[(&str, Result<Framing, Denial>)] = &[
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("content-length:005\r\n", Ok(Framing::Length(5))),
        ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("X: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
    ];
    for (text, framing) in table {
        assert_eq!(&fields(text), framing, "{text}");
    }
    for text in [
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1234567890123456789\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(fields(text), Err(Malformed::BodyFraming.into()), "{text}");
    }
    let old = head("POST /api HTTP/1.0", "Transfer-Encoding: chunked\r\n");
    assert_eq!(check_bytes(&old), Err(Malformed::BodyFraming.into()));
}

#[test]
fn a_header_past_its_bounds_is_too_large() {
    let many: String = (1..MAX_HEADER_FIELDS).map(|index| format!("x-{index}: 1\r\n")).collect();
    assert_eq!(fields(&many), NO_BODY);
    assert_eq!(fields(&format!("{many}x: 1\r\n")), Err(Denial::HeaderTooLarge { limit: "100 fields" }));
    let large = "a".repeat(MAX_HEADER_BYTES);
    assert_eq!(fields(&format!("x: {large}\r\n")), Err(Denial::HeaderTooLarge { limit: "32 KiB" }));
    let long = format!("/{}", "a".repeat(MAX_TARGET_BYTES));
    assert_eq!(get(&long[1..].replacen('a', "/", 1)), NO_BODY);
    assert_eq!(get(&long), Err(Denial::HeaderTooLarge { limit: "8 KiB of request target" }));
    let mut request = request(b"/api");
    request.insert_header("x", large).unwrap();
    assert_eq!(check(&request), Err(Denial::HeaderTooLarge { limit: "32 KiB" }));
}
