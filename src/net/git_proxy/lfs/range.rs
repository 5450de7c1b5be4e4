//! Parts of objects, for downloads that go on where they were broken off. Pure.
//!
//! One range from a first byte on is understood; others are ignored, as HTTP allows.

/// The bytes that are asked for, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first: u64,
    last: Option<u64>,
}

/// A part of an object, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) length: u64,
}

impl Range {
    /// Reads a `Range` header.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        let range = Self { first: number(first)?, last };
        range.last.is_none_or(|last| last >= range.first).then_some(range)
    }

    /// The part of an object of `size` bytes. Nothing where it has no byte of the range.
    pub(super) fn of(self, size: u64) -> Option<Part> {
        let end = self.last.map_or(size, |last| last.saturating_add(1).min(size));
        let length = end.checked_sub(self.first).filter(|length| *length > 0)?;
        Some(Part { first: self.first, length })
    }
}

impl Part {
    /// As a `Range` header.
    pub(super) fn asked(self) -> String {
        format!("bytes={}-{}", self.first, self.first + self.length - 1)
    }

    /// As a `Content-Range` header of an object of `size` bytes.
    pub(super) fn answered(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.first + self.length - 1)
    }

    /// Whether a `Content-Range` header is about this part of an object of `size` bytes.
    pub(super) fn is(self, header: &str, size: u64) -> bool {
        let header = header.trim();
        let unknown = header.strip_suffix("/*").map(|range| format!("{range}/{size}"));
        unknown.as_deref().unwrap_or(header) == self.answered(size)
    }
}

/// Digits alone: a sign is none.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_cut_to_the_object() {
        let part = |header: &str| Range::parse(header).map(|range| range.of(10).map(|part| (part.first, part.length)));
        let table = [
            ("bytes=0-9", Some(Some((0, 10)))),
            ("bytes=4-", Some(Some((4, 6)))),
            ("bytes=4-4", Some(Some((4, 1)))),
            ("bytes=4-99", Some(Some((4, 6)))),
            ("bytes=0-18446744073709551615", Some(Some((0, 10)))),
            ("bytes=10-", Some(None)),
            ("bytes=18446744073709551615-", Some(None)),
            ("bytes=9-4", None),
            ("bytes=-4", None),
            ("bytes=0-1,4-5", None),
            ("bytes=+1-4", None),
            ("bytes=1 - 4", None),
            ("bytes=18446744073709551616-", None),
            ("lines=1-4", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(part(header), expected, "{header}");
        }
        assert_eq!(Range::parse("bytes=0-").unwrap().of(0), None);
    }

    #[test]
    fn answers_must_be_about_the_part() {
        let part = Range::parse("bytes=4-").unwrap().of(10).unwrap();
        assert_eq!((part.asked().as_str(), part.answered(10).as_str()), ("bytes=4-9", "bytes 4-9/10"));
        for (header, expected) in [
            ("bytes 4-9/10", true),
            ("bytes 4-9/*", true),
            ("bytes 0-9/10", false),
            ("bytes 4-9/11", false),
            ("", false),
        ] {
            assert_eq!(part.is(header, 10), expected, "{header}");
        }
    }
}
