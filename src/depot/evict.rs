//! Which objects make room for another: those that were used longest ago. Pure.

use std::time::SystemTime;

/// Something that takes room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    pub what: T,
    /// Bytes.
    pub size: u64,
    pub used_at: SystemTime,
}

/// What goes, first those that were used longest ago, so that at most `budget` bytes and `count` objects are left.
pub fn evict<T>(mut held: Vec<Held<T>>, budget: u64, count: usize) -> Vec<T> {
    held.sort_by_key(|one| one.used_at);
    let mut bytes: u64 = held.iter().map(|one| one.size).fold(0, u64::saturating_add);
    let mut left = held.len();
    let mut gone = Vec::new();
    for one in held {
        if bytes <= budget && left <= count {
            break;
        }
        bytes = bytes.saturating_sub(one.size);
        left -= 1;
        gone.push(one.what);
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_must() {
        let held = |what: &'static str, size, used: u64| {
            let used_at = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
            Held { what, size, used_at }
        };
        let all = || vec![held("new", 4, 9), held("old", 4, 1), held("middle", 4, 5)];
        assert_eq!(evict(all(), 12, 3), [""; 0]);
        assert_eq!(evict(all(), 11, 3), ["old"]);
        assert_eq!(evict(all(), 4, 3), ["old", "middle"]);
        assert_eq!(evict(all(), 100, 1), ["old", "middle"]);
        assert_eq!(evict(all(), 0, 3), ["old", "middle", "new"]);
    }
}
