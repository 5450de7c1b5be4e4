//! The processor's time stamp counter. Under software emulation the guest sees the host's counter, and its kernel must be
//! told the frequency: it has nothing there to measure it with.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

const MEASURED_FOR: Duration = Duration::from_millis(50);

/// Counter ticks per millisecond, measured once per process and rounded to whole megahertz, so that measurements of one
/// host agree.
pub fn khz() -> u64 {
    static KHZ: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> u64 {
    let (ticks, started) = (ticks(), Instant::now());
    std::thread::sleep(MEASURED_FOR);
    let (ticks, elapsed) = (self::ticks().wrapping_sub(ticks), started.elapsed());
    let khz = u128::from(ticks) * 1_000_000 / elapsed.as_nanos();
    (khz as u64 + 500) / 1000 * 1000
}

fn ticks() -> u64 {
    // SAFETY: RDTSC has no preconditions on any x86-64 processor in user space unless the kernel forbids it, which Linux
    // does only for processes that ask for that.
    unsafe { core::arch::x86_64::_rdtsc() }
}
