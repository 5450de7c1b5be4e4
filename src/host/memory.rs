//! Whether the host is short of memory, as far as the kernel tells.

use std::fs;

/// Percentage of the last 10 s in which some task waited for memory, from which on that counts as a shortage.
const STALLED: f64 = 10.0;

/// The part of all memory that has to be available where the kernel does not tell how long tasks wait: one tenth.
const AVAILABLE_PART: u64 = 10;

/// Whether the host is short of memory: tasks wait for it (PSI), or, on kernels that do not say so, little is available. A
/// host that tells neither is taken for one with enough.
pub fn is_short() -> bool {
    match fs::read_to_string("/proc/pressure/memory") {
        Ok(pressure) => stalls(&pressure).is_some_and(|percent| percent >= STALLED),
        Err(_) => fs::read_to_string("/proc/meminfo").is_ok_and(|meminfo| has_little(&meminfo)),
    }
}

/// The percentage of the last 10 s.
fn stalls(pressure: &str) -> Option<f64> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

fn has_little(meminfo: &str) -> bool {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    kib("MemAvailable").zip(kib("MemTotal")).is_some_and(|(available, total)| available < total / AVAILABLE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let pressure =
            "some avg10=12.50 avg60=0.05 avg300=0.17 total=8155432\nfull avg10=1.00 avg60=0.04 avg300=0.15 total=7\n";
        assert_eq!(stalls(pressure), Some(12.5));
        assert_eq!(stalls(""), None);
        assert!(has_little("MemTotal:       1000 kB\nMemAvailable:    99 kB\n"));
        assert!(!has_little("MemTotal:       1000 kB\nMemAvailable:   100 kB\n"));
        assert!(!has_little("MemTotal:       1000 kB\n"));
    }
}
