//! Sizes and durations as people write them: `512 MiB`, `90s`, `1h 30m`.
//!
//! A number never stands without its unit, and sizes are binary: "MB" is refused rather than guessed.

use std::time::Duration;

use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Value};

const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// Largest first, as [`format_duration`] wants them.
const DURATIONS: [(&str, u64); 5] = [("d", DAY_MILLIS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const WHOLE: &str = "write a whole number of the next smaller unit";

fn is_fraction(after_number: &str) -> bool {
    after_number.starts_with(['.', ','])
}

/// A size in bytes, such as `512 MiB`.
pub fn parse_size(text: &str) -> Result<u64, Complaint> {
    let wrong = || Complaint::new(format!("{} is not a size", quoted(text)));
    let (number, unit) = split_unit(text.trim()).ok_or_else(|| wrong().hint("write it like `512 MiB` or `4 GiB`"))?;
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong().hint(match unit {
            "" => format!("add the unit: `{number} MiB`"),
            _ if is_fraction(unit) => WHOLE.to_owned(),
            _ => binary_unit(unit).map_or_else(
                || "units are `B`, `KiB`, `MiB`, `GiB` and `TiB`".to_owned(),
                |meant| format!("did you mean `{number} {meant}`?"),
            ),
        }));
    };
    number.checked_mul(*factor).ok_or_else(|| wrong().hint("it is too large"))
}

/// `MiB` for "MB", "Mb", "M", "mib" and the like.
fn binary_unit(unit: &str) -> Option<&'static str> {
    let first = unit.chars().next()?.to_ascii_uppercase();
    let rest = unit.get(1..)?.to_ascii_lowercase();
    let is_meant = |name: &str| name.len() == 3 && name.starts_with(first) && matches!(rest.as_str(), "" | "b" | "ib");
    SIZES.iter().map(|(name, _)| *name).find(|name| is_meant(name))
}

/// Bytes for people who read a list, in steps of 1024 and rounded down.
pub fn rough_size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A duration: one or more of days, hours, minutes, seconds and milliseconds, such as `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, Complaint> {
    let wrong = |hint: String| Complaint::new(format!("{} is not a duration", quoted(text))).hint(hint);
    let mut total = 0u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("write it like `30s` or `1h 30m`".into()));
    }
    while !rest.is_empty() {
        let end_of_number = rest.find(|c: char| !c.is_ascii_digit() && c != ' ').unwrap_or(rest.len());
        let end_of_unit =
            rest[end_of_number..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |n| n + end_of_number);
        let (number, unit) =
            split_unit(&rest[..end_of_unit]).ok_or_else(|| wrong("write it like `30s` or `1h 30m`".into()))?;
        let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or_else(|| match unit {
            "" if is_fraction(&rest[end_of_unit..]) => wrong(WHOLE.to_owned()),
            "" => wrong(format!("add the unit: `{number}s` or `{number}m`")),
            _ => wrong("units are `ms`, `s`, `m`, `h` and `d`".into()),
        })?;
        total = number
            .checked_mul(*factor)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| wrong("it is too long".into()))?;
        rest = rest[end_of_unit..].trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// `512 MiB` into 512 and `MiB`; a missing unit is empty.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// A size with the largest unit that divides it: `512 MiB`.
pub fn format_size(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    let (unit, factor) = SIZES.iter().rev().find(fits).unwrap_or(&SIZES[0]);
    format!("{} {unit}", bytes / factor)
}

/// A duration in the units of [`parse_duration`]: `1h 30m`. Less than a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, factor) in DURATIONS {
        if rest >= factor {
            parts.push(format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

/// The item, unless it is no string: "put it in quotes" alone would lead from one mistake to the next.
fn with_unit<'i, 'a>(item: &'i Item<'a>, example: &str) -> Option<&'i Item<'a>> {
    let without_unit = |number: &dyn std::fmt::Display| {
        item.refuse(Complaint::new(format!("`{number}` has no unit")).hint(format!("write it like `\"{example}\"`")));
    };
    match &item.node().value {
        Value::String(_) => return Some(item),
        Value::Integer(number) => without_unit(number),
        Value::Float(number) => without_unit(number),
        _ => item.refuse_type(&format!("something like `\"{example}\"`")),
    }
    None
}

/// A size in bytes between `smallest` and `largest`.
pub(super) fn size_between(item: &Item<'_>, smallest: u64, largest: u64) -> Option<u64> {
    let bytes = with_unit(item, "512 MiB")?.parse(parse_size)?;
    if !(smallest..=largest).contains(&bytes) {
        let range = format!("{} and {}", format_size(smallest), format_size(largest));
        item.refuse(format!("`{}` is not between {range}", format_size(bytes)));
        return None;
    }
    Some(bytes)
}

/// A duration between `shortest` and `longest`.
pub(super) fn duration_between(item: &Item<'_>, shortest: Duration, longest: Duration) -> Option<Duration> {
    let duration = with_unit(item, "30s")?.parse(parse_duration)?;
    if !(shortest..=longest).contains(&duration) {
        let range = format!("{} and {}", format_duration(shortest), format_duration(longest));
        item.refuse(format!("`{}` is not between {range}", format_duration(duration)));
        return None;
    }
    Some(duration)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_binary_and_have_a_unit() {
        for (text, bytes) in [("512 MiB", 512 << 20), ("4GiB", 4 << 30), (" 0 B ", 0), ("1 TiB", 1 << 40)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, seconds) in
            [("30s", 30), ("1h 30m", 5400), ("1h30m", 5400), ("14d", 14 * 86400), ("2 m", 120), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_refused_comes_with_the_way_to_write_it() {
        let sizes = ["512", "512 MB", "1 g", "1.5 GiB", "-1 MiB", "", "5 parsecs", "99999999 TiB", "5 é"];
        let durations = ["", "30", "30 sec", "1h 5", "-1s", "1.5h", "999999999999999d", "5é"];
        let shown = |c: Complaint| c.at("f", None, "").to_string().replace("\n  hint:", " ->");
        let lines: Vec<String> = sizes
            .iter()
            .map(|text| shown(parse_size(text).unwrap_err()))
            .chain(durations.iter().map(|text| shown(parse_duration(text).unwrap_err())))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        f: `512` is not a size -> add the unit: `512 MiB`
        f: `512 MB` is not a size -> did you mean `512 MiB`?
        f: `1 g` is not a size -> did you mean `1 GiB`?
        f: `1.5 GiB` is not a size -> write a whole number of the next smaller unit
        f: `-1 MiB` is not a size -> write it like `512 MiB` or `4 GiB`
        f: `` is not a size -> write it like `512 MiB` or `4 GiB`
        f: `5 parsecs` is not a size -> units are `B`, `KiB`, `MiB`, `GiB` and `TiB`
        f: `99999999 TiB` is not a size -> it is too large
        f: `5 é` is not a size -> units are `B`, `KiB`, `MiB`, `GiB` and `TiB`
        f: `` is not a duration -> write it like `30s` or `1h 30m`
        f: `30` is not a duration -> add the unit: `30s` or `30m`
        f: `30 sec` is not a duration -> units are `ms`, `s`, `m`, `h` and `d`
        f: `1h 5` is not a duration -> add the unit: `5s` or `5m`
        f: `-1s` is not a duration -> write it like `30s` or `1h 30m`
        f: `1.5h` is not a duration -> write a whole number of the next smaller unit
        f: `999999999999999d` is not a duration -> it is too long
        f: `5é` is not a duration -> units are `ms`, `s`, `m`, `h` and `d`
        ");
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(bytes: u64, millis: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,20}") {
            prop_assert_eq!(parse_size(&text).is_ok(), parse_size(&format!(" {text}")).is_ok());
            prop_assert_eq!(parse_duration(&text).is_ok(), parse_duration(&format!(" {text}")).is_ok());
        }
    }
}
