//! Reports of jobs' programs: whatever they are, reading them ends, keeps its limits, and what is told of them is whole.

#![no_main]

use dayfly::report::{Kind, Results, flaky, read, summary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, report)) = data.split_first() else { return };
    let kind = Kind::ALL[usize::from(*first) % Kind::ALL.len()];
    let mut results = Results::default();
    read(kind, "report", report, "/home/runner/jobs/site", &mut results);
    results.settle();
    for remark in summary::remarks(&results) {
        let file = remark.file.expect("it has a place");
        assert!(!file.starts_with('/') && !file.split('/').any(|part| part == ".."));
    }
    assert!(summary::markdown(&results).len() < 1 << 20);
    assert!(summary::lines(&results).iter().all(|line| !line.contains('\n')));
    let other = results.clone();
    assert_eq!(flaky::compare(&mut results, &[other]), 0);
    let text = serde_json::to_string(&results).expect("it has texts and numbers only");
    assert_eq!(serde_json::from_str::<Results>(&text).expect("it was just written"), results);
});
