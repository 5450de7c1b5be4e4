//! Sizes and times as people write them: `512 MiB`, `30s`, `1h`.

use std::time::Duration;

/// A time such as `500ms`, `30s`, `10m`, `2h`, `14d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no time such as `30s` or `10m`"))?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("`{text}` has no unit; write `{text}s` for seconds")),
        _ => return Err(format!("`{unit}` is no unit of time; use ms, s, m, h or d")),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

/// A size such as `512 MiB` or `4GiB`, in bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no size such as `512 MiB`"))?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "KB" | "MB" | "GB" | "TB" => return Err(format!("`{unit}` is ambiguous; use KiB, MiB, GiB or TiB")),
        "" => return Err(format!("`{text}` has no unit; write `{text} MiB`, say")),
        _ => return Err(format!("`{unit}` is no unit of size; use KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

/// A size, in whole MiB.
pub fn parse_mib(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < 1 << 20 { Err(format!("`{text}` is less than one MiB")) } else { Ok(bytes >> 20) }
}

/// A time in the largest unit that keeps it readable.
pub fn format_duration(time: Duration) -> String {
    match time.as_millis() {
        0..1_000 => format!("{} ms", time.as_millis()),
        1_000..120_000 => format!("{:.1} s", time.as_secs_f32()).replace(".0 s", " s"),
        _ => format!("{} min", time.as_secs() / 60),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_sizes_and_times_in_many_ways() {
        assert_eq!(parse_bytes("512 MiB"), Ok(512 << 20));
        assert_eq!(parse_mib("4GiB"), Ok(4096));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "x", "-1s", "10", "10 parsecs", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "1", "1 MB", "1.5 GiB", "99999999999 TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
