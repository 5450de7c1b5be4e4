//! The wall clock, as the store and the forges know it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds since the epoch.
pub fn now_us() -> i64 {
    i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX)
}

/// From one time in milliseconds since the epoch to a later one; nothing if the clock was set back meanwhile.
pub fn since_ms(earlier: i64, later: i64) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
