//! From the bytes that a job wrote to text that is harmless wherever it is shown: a terminal, a web page, a forge. Pure.
//!
//! Escape sequences vanish, line ends become `\n`, and every other control character and invalid byte becomes U+FFFD. Each
//! record is rendered by itself, which is right because [`safe_length`] chose where records end.

/// Longest escape sequence that is recognised, in bytes. What is longer shows as text.
const MAX_ESCAPE: usize = 256;

/// Most bytes that [`safe_length`] holds back: an escape sequence, and an unfinished character or line end after it.
pub const MAX_HELD: usize = MAX_ESCAPE + 8;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Harmless text. Contains no control character but `\n` and `\t`.
pub fn plain(bytes: &[u8]) -> String {
    rendered(bytes, |_| false)
}

/// Harmless text that may have colours, for a terminal: of escape sequences only SGR remains, which cannot move the cursor,
/// change a title, write to the clipboard or ask the terminal for an answer.
pub fn coloured(bytes: &[u8]) -> String {
    rendered(bytes, is_colour)
}

/// Whether an escape sequence only sets colours and weights of what follows (SGR).
fn is_colour(sequence: &str) -> bool {
    let parameters = sequence.strip_prefix("\x1b[").and_then(|rest| rest.strip_suffix('m'));
    parameters.is_some_and(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')))
}

/// `bytes` without the escape sequences that `keeps` does not want.
fn rendered(bytes: &[u8], keeps: impl Fn(&str) -> bool) -> String {
    let lossy = String::from_utf8_lossy(bytes);
    let mut rest = &*lossy;
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n' && c != '\t') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = match rest.as_bytes() {
            [b'\r', b'\n', ..] => 1,
            [b'\r', ..] => {
                out.push('\n');
                1
            }
            [ESCAPE, ..] => {
                let length = escape_length(rest).unwrap_or(rest.len());
                if keeps(&rest[..length]) {
                    out.push_str(&rest[..length]);
                }
                length
            }
            _ => {
                out.push(char::REPLACEMENT_CHARACTER);
                rest.chars().next().map_or(0, char::len_utf8)
            }
        };
        rest = &rest[skipped..];
    }
    out.push_str(rest);
    out
}

/// The length of the escape sequence at the start of `text`, or `None` if its end is still to come.
fn escape_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let limited = |length: usize| (length <= MAX_ESCAPE).then_some(length);
    let length = match bytes.get(1)? {
        b'[' => 2 + final_byte(&bytes[2..], 0x20..=0x3f, 0x40..=0x7e).unwrap_or(usize::MAX - 2),
        b']' | b'P' | b'X' | b'^' | b'_' => 2 + string_length(&bytes[2..]).unwrap_or(usize::MAX - 2),
        0x20..=0x2f => 1 + final_byte(&bytes[1..], 0x20..=0x2f, 0x30..=0x7e).unwrap_or(usize::MAX - 1),
        0x30..=0x7e => 2,
        _ => 1,
    };
    match limited(length) {
        Some(length) => Some(length),
        None if bytes.len() > MAX_ESCAPE => Some(2),
        None => None,
    }
}

/// The length up to and including the byte in `last`; a byte in neither range ends the sequence before itself.
fn final_byte(bytes: &[u8], middle: std::ops::RangeInclusive<u8>, last: std::ops::RangeInclusive<u8>) -> Option<usize> {
    let at = bytes.iter().position(|byte| !middle.contains(byte))?;
    Some(if last.contains(&bytes[at]) { at + 1 } else { at })
}

/// The length of a control string (a window title, a link): to its terminator, or to the end of the line. A terminator of two
/// bytes is a sequence of its own, so that it makes no difference whether a record ends before it.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let at = bytes.iter().position(|byte| matches!(*byte, ESCAPE | BELL | b'\n' | b'\r'))?;
    Some(if bytes[at] == BELL { at + 1 } else { at })
}

/// How many leading bytes may be a record of their own: all, less an unfinished character, escape sequence or line end at
/// the end. What remains, at most [`MAX_HELD`] bytes, belongs in front of what follows.
pub fn safe_length(bytes: &[u8]) -> usize {
    let mut length = bytes.len() - unfinished_character(bytes);
    if bytes[..length].ends_with(b"\r") {
        length -= 1;
    }
    let window = length.saturating_sub(MAX_ESCAPE);
    if let Some(at) = bytes[window..length].iter().rposition(|byte| *byte == ESCAPE) {
        let sequence = String::from_utf8_lossy(&bytes[window + at..length]);
        if escape_length(&sequence).is_none() {
            length = window + at;
        }
    }
    length
}

/// Bytes at the end that begin a UTF-8 character and need more to be one.
fn unfinished_character(bytes: &[u8]) -> usize {
    for (behind, byte) in (1..=3).zip(bytes.iter().rev()) {
        let needed = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if needed > behind { behind } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_text_remains() {
        for (bytes, expected) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b]52;c;never closed\nnext", "\nnext"),
            (b"\x1b(Bcharset \x1b7saved", "charset saved"),
            (b"\x1b[2\nbroken", "\nbroken"),
            (b"10%\r20%\rdone\r\n", "10%\n20%\ndone\n"),
            (b"nul\0bell\x07del\x7f", "nul\u{fffd}bell\u{fffd}del\u{fffd}"),
            ("c1\u{9b}31m".as_bytes(), "c1\u{fffd}31m"),
            (b"bad\xffbyte", "bad\u{fffd}byte"),
            ("grün €".as_bytes(), "grün €"),
            (b"cut \x1b[3", "cut "),
        ] {
            assert_eq!(plain(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn only_text_and_colours_remain() {
        for (bytes, expected) in [
            (&b"\x1b[1;31mred\x1b[0m \x1b[38:5:200mpink\x1b[m"[..], "\x1b[1;31mred\x1b[0m \x1b[38:5:200mpink\x1b[m"),
            (b"\x1b]0;title\x07\x1b]52;c;Y2xpcA==\x07after", "after"),
            (b"\x1b[2J\x1b[1;1H\x1b[?1049h\x1b[6n\x1b[>4;2mup", "up"),
            (b"\x1bP+q544e\x1b\\\x1b_x\x1b\\\x1bc\x1b(0text", "text"),
            ("c1\u{9b}31m\u{9d}0;t\u{9c}".as_bytes(), "c1\u{fffd}31m\u{fffd}0;t\u{fffd}"),
            (b"bar\x1b[31", "bar"),
        ] {
            assert_eq!(coloured(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_unfinished_is_held_back() {
        for (bytes, held) in [
            (&b"done"[..], 0),
            (b"line\n", 0),
            (b"half \r", 1),
            (b"\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xe2\x82\xac", 0),
            (b"\xff\xfe", 0),
            (b"text \x1b", 1),
            (b"text \x1b[3", 3),
            (b"text \x1b[31m", 0),
            (b"\x1b]8;;https://", 13),
        ] {
            assert_eq!(bytes.len() - safe_length(bytes), held, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_endless_sequence_does_not_hold_back_the_log() {
        let mut bytes = b"\x1b]".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 10_000));
        assert_eq!(safe_length(&bytes), bytes.len());
        assert!(plain(&bytes).len() > 9_000);
    }

    /// What is shown of output that arrives in pieces of `size` bytes.
    fn in_records(bytes: &[u8], size: usize) -> String {
        let (mut held, mut text) = (Vec::new(), String::new());
        for piece in bytes.chunks(size) {
            held.extend_from_slice(piece);
            let rest = held.split_off(safe_length(&held));
            assert!(rest.len() <= MAX_HELD);
            text.push_str(&plain(&held));
            held = rest;
        }
        text + &plain(&held)
    }

    #[test]
    fn a_sequence_at_the_limit_is_the_same_however_it_arrives() {
        for length in MAX_ESCAPE - 4..MAX_ESCAPE + 4 {
            for end in [
                &b""[..],
                b"\x1b",
                b"\x1b\\",
                b"\x1b\\after",
                b"\x07",
                b"\nnext",
                b"\r\n",
                b"\xff",
                b"\xe2\x82",
                b"\x1b[0m",
            ] {
                let bytes = [b"before \x1bP", vec![b'x'; length].as_slice(), end].concat();
                for size in [1, 7, MAX_ESCAPE, bytes.len()] {
                    assert_eq!(in_records(&bytes, size), plain(&bytes), "{length} {size} {}", end.escape_ascii());
                }
            }
        }
    }

    /// Bytes rich in what is special here.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(ESCAPE),
            Just(b'['),
            Just(b']'),
            Just(b'm'),
            Just(b'\\'),
            Just(b';'),
            Just(b'\r'),
            Just(b'\n'),
            Just(BELL),
            Just(0xe2),
            Just(0x82),
            Just(0xac),
            Just(0xf0),
            Just(b'a'),
            any::<u8>()
        ];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn nothing_harmful_remains(bytes in output()) {
            let text = plain(&bytes);
            prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
            prop_assert_eq!(plain(text.as_bytes()), text);
        }

        #[test]
        fn colours_are_all_that_a_terminal_is_told(bytes in output()) {
            let text = coloured(&bytes);
            prop_assert_eq!(coloured(text.as_bytes()), text.clone());
            for sequence in text.split('\x1b').skip(1) {
                let end = sequence.find(|c: char| !matches!(c, '[' | '0'..='9' | ';' | ':'));
                prop_assert!(end.is_some_and(|end| sequence[end..].starts_with('m')), "{:?}", text);
            }
            prop_assert!(text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\x1b')));
        }

        #[test]
        fn records_render_like_the_whole(bytes in output(), size in 1_usize..40) {
            prop_assert_eq!(in_records(&bytes, size), plain(&bytes));
        }
    }
}
