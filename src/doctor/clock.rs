//! The wall clock, by which forges judge our signatures, and the processor's counter, by which guests keep time.

use std::fs;

use super::finding::Finding;
use super::subject::Subject;
use crate::host::{probe, tsc};

#[derive(Debug, Clone)]
struct Facts {
    /// Or why the kernel does not say.
    synchronised: Result<bool, String>,
    counter_khz: u64,
    /// Whether the counter's frequency never changes.
    is_steady: bool,
    source: String,
}

pub(super) fn examine(_: &Subject) -> Vec<Finding> {
    let facts = observe();
    vec![wall(&facts), counter(&facts)]
}

fn observe() -> Facts {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    Facts {
        synchronised: probe::clock_is_synchronised().map_err(|error| error.to_string()),
        counter_khz: tsc::khz(),
        is_steady: flags.split_whitespace().any(|flag| flag == "constant_tsc"),
        source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
    }
}

fn wall(facts: &Facts) -> Finding {
    const ID: &str = "clock.synchronised";
    match &facts.synchronised {
        Ok(true) => Finding::ok(ID, "the clock is synchronised").data("synchronised", true),
        Ok(false) => Finding::warning(ID, "nobody keeps the clock right, as far as the kernel knows")
            .detail("forges refuse the signatures of an App when the clock is wrong by more than a minute")
            .hint("install `systemd-timesyncd` or `chrony`")
            .data("synchronised", false),
        Err(why) => Finding::skipped(ID, format!("the kernel does not say whether the clock is right: {why}")),
    }
}

fn counter(facts: &Facts) -> Finding {
    let megahertz = facts.counter_khz / 1000;
    let finding = if facts.is_steady {
        Finding::ok("clock.counter", format!("the time stamp counter is steady, at {megahertz} MHz"))
    } else {
        Finding::warning("clock.counter", format!("the time stamp counter has {megahertz} MHz, and may change"))
            .detail("snapshots for software emulation are tied to its frequency: they are baked again when it changes")
    };
    finding.data("khz", facts.counter_khz).data("clocksource", facts.source.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    #[test]
    fn every_state_of_the_clocks_has_its_words() {
        let facts = Facts { synchronised: Ok(true), counter_khz: 2_500_000, is_steady: true, source: "tsc".into() };
        let drifting = Facts { synchronised: Ok(false), is_steady: false, ..facts.clone() };
        let silent = Facts { synchronised: Err("Operation not permitted".into()), ..facts.clone() };
        insta::assert_snapshot!(sketch(&[
            wall(&facts), counter(&facts), wall(&drifting), counter(&drifting), wall(&silent),
        ]), @"
        ok clock.synchronised: the clock is synchronised
        ok clock.counter: the time stamp counter is steady, at 2500 MHz
        warning clock.synchronised: nobody keeps the clock right, as far as the kernel knows
            forges refuse the signatures of an App when the clock is wrong by more than a minute
            -> install `systemd-timesyncd` or `chrony`
        warning clock.counter: the time stamp counter has 2500 MHz, and may change
            snapshots for software emulation are tied to its frequency: they are baked again when it changes
        skipped clock.synchronised: the kernel does not say whether the clock is right: Operation not permitted
        ");
    }
}
