//! The processor's time stamp counter. Under software emulation the guest sees the host's counter, and its kernel must be
//! told the frequency: it has nothing there to measure it with.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

const MEASURED_FOR: Duration = Duration::from_millis(50);

/// Readings at each end of the measurement, of which the best counts.
const TRIES: usize = 32;

/// Measurements of one host differ by a few kHz. Those that are rounded to whole megahertz agree, unless the truth lies near
/// the middle between two: so what somebody settled on before counts, in kHz, if it is not further away than this.
const TOLERANCE: u64 = 1000;

/// Counter ticks per millisecond, measured once per process and rounded to whole megahertz.
pub fn khz() -> u64 {
    settled([])
}

/// The same, or what it was settled on earlier on this host, if that is among `known`.
pub fn settled(known: impl IntoIterator<Item = u64>) -> u64 {
    static KHZ: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    settle(*KHZ.get_or_init(measure), known)
}

fn settle(measured: u64, known: impl IntoIterator<Item = u64>) -> u64 {
    // The lowest rather than the nearest, so that it is always the same one.
    let near = known.into_iter().filter(|khz| khz.abs_diff(measured) <= TOLERANCE).min();
    near.unwrap_or((measured + 500) / 1000 * 1000)
}

fn measure() -> u64 {
    let (began, at_begin) = reading();
    std::thread::sleep(MEASURED_FOR);
    let (ended, at_end) = reading();
    let nanoseconds = at_end.duration_since(at_begin).as_nanos();
    (u128::from(ended.wrapping_sub(began)) * 1_000_000 / nanoseconds) as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_between_two_megahertz_stays_what_it_was_called_first() {
        assert_eq!((settle(2_500_499, []), settle(2_500_501, [])), (2_500_000, 2_501_000));
        for first in [2_500_000, 2_501_000] {
            for measured in 2_500_490..2_500_510 {
                assert_eq!(settle(measured, [first]), first);
            }
        }
        assert_eq!(settle(2_500_501, [2_501_000, 2_500_000, 7]), 2_500_000);
        assert_eq!(settle(2_502_000, [2_500_000]), 2_502_000, "another host, or another processor");
    }
}
