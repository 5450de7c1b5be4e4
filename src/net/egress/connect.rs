//! The head of an HTTP CONNECT request, and the answers to it. Pure.
//!
//! Only this method is read here: what follows the head is nobody's but the two ends'. Every other request goes to an HTTP
//! server, which knows where bodies end.

use core::fmt::Display;

/// Bytes of a request's head. Clients send a few hundred, with a browser's worth of headers a few thousand.
pub const MAX_HEAD: usize = 16 << 10;

/// Characters of an explanation in the first line of an answer.
const MAX_REASON: usize = 200;

const METHOD: &[u8] = b"CONNECT ";

/// What was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    Incomplete,
    /// Another method.
    Other,
    /// `host:port` as it stands there, and the length of the head.
    Connect {
        authority: String,
        length: usize,
    },
    Malformed,
}

/// Reads the head of a request.
pub fn read(bytes: &[u8]) -> Head {
    let known = bytes.len().min(METHOD.len());
    if bytes[..known] != METHOD[..known] {
        return Head::Other;
    }
    let Some(length) = end_of_head(bytes) else {
        return if bytes.len() >= MAX_HEAD { Head::Malformed } else { Head::Incomplete };
    };
    let head = &bytes[..length];
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(line) = core::str::from_utf8(line) else { return Head::Malformed };
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("CONNECT"), Some(authority), Some("HTTP/1.1" | "HTTP/1.0"), None)
            if length <= MAX_HEAD && !authority.is_empty() =>
        {
            Head::Connect { authority: authority.to_owned(), length }
        }
        _ => Head::Malformed,
    }
}

/// The length of the head with the empty line at its end.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    ends.into_iter().find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The answer after which the bytes are the two ends' own.
pub const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// An answer that says why not: in its first line, which is what most clients show, and as its text.
pub fn refusal(status: u16, name: &str, text: &dyn Display) -> Vec<u8> {
    let body = format!("dayfly: {text}\n");
    let is_plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    let line = text.to_string();
    let reason: String = line.lines().next().unwrap_or_default().chars().filter(is_plain).take(MAX_REASON).collect();
    format!(
        "HTTP/1.1 {status} {name}: {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_read_in_any_pieces() {
        let head = b"CONNECT example.org:443 HTTP/1.1\r\nHost: other.example\r\nX: 1\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(read(&head[..cut]), Head::Incomplete, "{cut}");
        }
        let connect = Head::Connect { authority: "example.org:443".into(), length: head.len() };
        assert_eq!(read(&[&head[..], b"\x16\x03\x01"].concat()), connect);
        assert_eq!(
            read(b"CONNECT a:1 HTTP/1.0\n\n"),
            Head::Connect { authority: "a:1".into(), length: 22 },
            "bare line ends are what some clients send"
        );
    }

    #[test]
    fn what_is_no_connect_is_told_apart() {
        for bytes in [&b"GET http://a/ HTTP/1.1\r\n\r\n"[..], b"connect a:1 HTTP/1.1\r\n\r\n", b"CONNECTS", b"\x16\x03"]
        {
            assert_eq!(read(bytes), Head::Other, "{bytes:?}");
        }
        for bytes in [
            &b"CONNECT  HTTP/1.1\r\n\r\n"[..],
            b"CONNECT a:1\r\n\r\n",
            b"CONNECT a:1 HTTP/2\r\n\r\n",
            b"CONNECT a:1 b HTTP/1.1\r\n\r\n",
            b"CONNECT \xff:1 HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(read(bytes), Head::Malformed, "{bytes:?}");
        }
        let endless = [b"CONNECT a:1 HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(MAX_HEAD)].concat();
        assert_eq!(read(&endless), Head::Malformed);
    }

    #[test]
    fn a_refusal_says_why_in_one_line_and_in_text() {
        let text = String::from_utf8_lossy(&refusal(403, "Forbidden", &"`a:1` is not in `allow`\n  hint: ü\r\nX: y"))
            .into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden: `a:1` is not in `allow`\r\nContent-Type"), "{head}");
        assert!(body.contains("hint: ü"), "{body}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in "CONNECT [ -~\r\n]{0,80}") {
            if let Head::Connect { authority, length } = read(bytes.as_bytes()) {
                prop_assert!(length <= bytes.len() && !authority.contains(['\r', '\n', ' ']));
            }
        }
    }
}
