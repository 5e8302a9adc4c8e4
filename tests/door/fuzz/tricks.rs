//! What is played on the bytes of a request, by the numbers of a seed.

use super::WORKSTATION;
use crate::support::dice::Dice;

/// Lines that make some server read another length, method, path or host.
const LINES: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "Content-Length : 3",
    "Content-Length: +4",
    "Content-Length: -1",
    "Content-Length: 0x10",
    "Content-Length:\t7",
    "Content-Length: 18446744073709551617",
    "Content_Length: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    " Transfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\0",
    "Connection: close",
    "Connection: close, transfer-encoding",
    "Connection: content-length",
    "Connection: host",
    "Connection: keep-alive, upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
    "Connection: upgrade\r\nUpgrade: websocket",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Trailer: Content-Length",
    "TE: trailers",
    "Host: elsewhere",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /api/alerts",
    "X-Harmless: yes",
];

/// Request lines that some read as another.
const TARGETS: &[(&str, &str)] = &[
    ("GET /", "GET  /"),
    ("GET /", "GET\t/"),
    ("GET /", "GET http://gateway/"),
    ("GET /", "GET //"),
    ("GET /", "get /"),
    ("POST /", "POST /./"),
    ("POST /", "GET /"),
    ("GET /", "POST /"),
    ("/api/", "/api%2f"),
    ("/api/", "/api/v1.0/"),
    ("/api/", "/API/"),
    ("?", "#?"),
    ("?", "??"),
    ("?", "? "),
    (" HTTP/1.1", " HTTP/1.0"),
    (" HTTP/1.1", " HTTP/0.9"),
    (" HTTP/1.1", " HTTP/1.1 HTTP/1.1"),
    (" HTTP/1.1", "  HTTP/1.1"),
    (" HTTP/1.1", ""),
];

/// Sizes of a chunk that some read as another.
const SIZES: &[&str] = &["0x", "0", "00000000", "+", "-", " ", ";", "\r\n", "f"];

/// Ends of a size's line, or of a chunk, that some take for one.
const ENDS: &[&str] = &["\n", "\r", " \r\n", ";x=y\r\n", ";\n\r\n", "\r\n\r\n", "\n\r\n", ""];

/// The bytes of a case.
pub(super) fn case(number: u64, authorization: &str) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let mut bytes = Vec::new();
    for index in 0..=dice.below(3) {
        let mut request = plain(&mut dice, &format!("{number}-{index}"), authorization);
        // One in three is left as it is.
        for _ in 0..[0, 1, 1, 2, 4, 0][dice.below(6)] {
            trick(&mut dice, &mut request);
        }
        bytes.extend_from_slice(&request);
    }
    if dice.one_in(12) {
        let cut = dice.below(bytes.len());
        bytes.truncate(cut);
    }
    bytes
}

/// A request that passes; some have another in their body.
fn plain(dice: &mut Dice, name: &str, authorization: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nX-Case: {name}\r\n");
    let smuggled = format!(
        "GET /api/machines?smuggled={name} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\r\n"
    );
    let text = match dice.below(3) {
        0 => format!("0\r\n\r\n{smuggled}"),
        1 => smuggled,
        _ => format!("a body of {name}"),
    };
    let json = serde_json::json!({ "Comment": text }).to_string();
    let chunked = |body: &str, size: usize| {
        let chunks = body.as_bytes().chunks(size);
        let chunks =
            chunks.map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
        format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
    };
    let sized = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let import = format!("POST /api/indicators/import?{name} {head}Content-Type: application/json\r\n");
    let upload = format!("POST /api/libraryfiles?{name} {head}");
    let request = match dice.below(6) {
        0 => format!("GET /api/machines?{name} {head}\r\n"),
        1 => format!("GET /api/machines/{WORKSTATION}?{name} {head}{}", sized("")),
        2 => import + &sized(&json),
        3 => import + &chunked(&json, 1 + dice.below(300)),
        4 => upload + &sized(&text),
        _ => upload + &chunked(&text, 1 + dice.below(300)),
    };
    request.into_bytes()
}

fn trick(dice: &mut Dice, request: &mut Vec<u8>) {
    let head = find(request, b"\r\n\r\n", 0).unwrap_or(request.len());
    match dice.below(12) {
        0..=2 => {
            // A line more, behind any line of the head.
            let ends: Vec<_> = (0..head).filter(|at| request[*at..].starts_with(b"\r\n")).collect();
            if let Some(at) = ends.get(dice.below(ends.len())) {
                let line = format!("\r\n{}", dice.of(LINES));
                request.splice(*at..*at, line.into_bytes());
            }
        }
        3 => {
            let (from, to) = dice.of(TARGETS);
            replace(request, from.as_bytes(), to.as_bytes(), 0);
        }
        4 => {
            // Another end of a line, anywhere.
            let from = dice.below(request.len());
            let to = *dice.of(ENDS);
            replace(request, b"\r\n", to.as_bytes(), from);
        }
        5 => {
            // Another size of a chunk, or of whatever begins a line of the body.
            let from = head + dice.below(request.len() - head);
            if let Some(at) = find(request, b"\r\n", from) {
                request.splice(at + 2..at + 2, dice.of(SIZES).bytes());
            }
        }
        6 => {
            // A length that is off by a little.
            if let Some(at) = find(request, b"Content-Length: ", 0) {
                let at = at + b"Content-Length: ".len();
                let digits = request[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let length: usize =
                    std::str::from_utf8(&request[at..at + digits]).unwrap().parse().unwrap_or(0);
                let other = (length + dice.below(80)).saturating_sub(40);
                request.splice(at..at + digits, other.to_string().into_bytes());
            }
        }
        7 => {
            let line = format!("{}\r\n\r\n", ["0", "", "X: y", "1\r\nz\r\n0"][dice.below(4)]);
            request.extend_from_slice(line.as_bytes());
        }
        8 => {
            let at = dice.below(request.len());
            request.insert(at, *dice.of(b"\r\n\t \0:;,/%0a\x0b\x7f\x85\xff"));
        }
        9 => {
            let at = dice.below(request.len());
            request.remove(at);
        }
        10 => {
            let at = dice.below(request.len());
            request[at] ^= 1 << dice.below(8);
        }
        _ => {
            // A piece of it twice.
            let from = dice.below(request.len());
            let to = (from + dice.below(60)).min(request.len());
            let piece = request[from..to].to_vec();
            let at = dice.below(request.len());
            request.splice(at..at, piece);
        }
    }
}

fn find(bytes: &[u8], part: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(part.len()).position(|window| window == part).map(|at| from + at)
}

fn replace(bytes: &mut Vec<u8>, from: &[u8], to: &[u8], start: usize) {
    if let Some(at) = find(bytes, from, start) {
        bytes.splice(at..at + from.len(), to.iter().copied());
    }
}
