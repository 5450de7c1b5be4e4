//! The wall clock, as the store and the forges know it, and one that nobody can set.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds since the epoch.
pub fn now_us() -> i64 {
    i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds of a clock that only goes on, whatever happens to the wall clock. For what is remembered no longer than this
/// process lives.
pub fn steady_ms() -> i64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    i64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// From one time in milliseconds since the epoch to a later one; nothing if the clock was set back meanwhile.
pub fn since_ms(earlier: i64, later: i64) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time that has passed, for people: its two largest units. Milliseconds.
pub fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let with_rest = |whole: i64, unit: &str, rest: i64, smaller: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {smaller}"),
    };
    match () {
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} min"),
        () if days == 0 => with_rest(hours, "h", minutes % 60, "min"),
        () => with_rest(days, "d", hours % 24, "h"),
    }
}

/// How long before `now` something happened, for people: in its largest unit.
pub fn ago(now: i64, then: i64) -> String {
    let passed = span(now - then);
    let largest = passed.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
    if now - then < 1000 { "now".to_owned() } else { format!("{largest} ago") }
}

/// A random share between 0 and 1, to spread what would otherwise happen at once.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness everything happens at once, which is no fault.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let spans = [-5, 0, 999, 59_999, 60_000, 3_599_000, 3_600_000, 7_500_000, 86_400_000, 100_000_000].map(span);
        assert_eq!(spans.join(", "), "0 s, 0 s, 0 s, 59 s, 1 min, 59 min, 1 h, 2 h 5 min, 1 d, 1 d 3 h");
        assert_eq!(
            [ago(5000, 4500), ago(5000, 2000), ago(5000, 9000), ago(7_500_000, 0)],
            ["now", "3 s ago", "now", "2 h ago"]
        );
    }
}
