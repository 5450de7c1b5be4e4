//! The processor's time stamp counter. Under software emulation the guest sees the host's counter, and its kernel must be
//! told the frequency: it has nothing there to measure it with.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

const MEASURED_FOR: Duration = Duration::from_millis(50);

/// Readings at each end of the measurement, of which the best counts.
const TRIES: usize = 32;

/// Counter ticks per millisecond, measured once per process and rounded to whole megahertz, so that measurements of one
/// host agree.
pub fn khz() -> u64 {
    static KHZ: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> u64 {
    let (began, at_begin) = reading();
    std::thread::sleep(MEASURED_FOR);
    let (ended, at_end) = reading();
    let nanoseconds = at_end.duration_since(at_begin).as_nanos();
    let khz = u128::from(ended.wrapping_sub(began)) * 1_000_000 / nanoseconds;
    (khz as u64 + 500) / 1000 * 1000
}

/// The counter and the time at one moment: of several tries the one between whose two looks at the clock the least passed. A
/// process that is interrupted there would measure its neighbours.
fn reading() -> (u64, Instant) {
    let tries = (0..TRIES).map(|_| {
        let before = Instant::now();
        let ticks = ticks();
        (before.elapsed(), ticks, before)
    });
    let (_, ticks, at) = tries.min_by_key(|(took, ..)| *took).expect("there is at least one try");
    (ticks, at)
}

fn ticks() -> u64 {
    // SAFETY: RDTSC has no preconditions on any x86-64 processor in user space unless the kernel forbids it, which Linux
    // does only for processes that ask for that.
    unsafe { core::arch::x86_64::_rdtsc() }
}
