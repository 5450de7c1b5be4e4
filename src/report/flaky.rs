//! Tests that failed in one attempt and passed in another of the same commit.

use super::model::{Results, Test};

/// Marks what is flaky in `now` given other attempts at the same commit, and gives how many more that are than were known. A
/// name that both passed and failed within one attempt says nothing: several tests have it.
pub fn compare(now: &mut Results, others: &[Results]) -> usize {
    let known = now.flaky.len();
    let is_clear = |test: &Test, of: &Results| !of.has_passed(test.id());
    let of_now: Vec<Test> = now
        .failures
        .iter()
        .filter(|test| is_clear(test, now) && others.iter().any(|other| passed_alone(test, other)))
        .cloned()
        .collect();
    let of_others = others.iter().flat_map(|other| {
        let clear = other.failures.iter().filter(move |test| is_clear(test, other));
        clear.chain(&other.flaky)
    });
    let of_others: Vec<Test> = of_others.filter(|test| passed_alone(test, now)).cloned().collect();
    of_now.into_iter().chain(of_others).for_each(|test| now.keep_flaky(test));
    now.flaky.len() - known
}

fn passed_alone(test: &Test, results: &Results) -> bool {
    results.has_passed(test.id()) && !results.failures.iter().any(|failure| failure.id() == test.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Kind, read};

    fn attempt(tap: &str) -> Results {
        let mut results = Results::default();
        read(Kind::Tap, "t", tap.as_bytes(), "", &mut results);
        results.settle();
        results
    }

    #[test]
    fn a_test_is_flaky_that_ended_both_ways() {
        let flaky = |now: &str, others: &[&str]| {
            let mut now = attempt(now);
            let others: Vec<Results> = others.iter().map(|text| attempt(text)).collect();
            let more = compare(&mut now, &others);
            assert_eq!(more, now.flaky.len());
            now.flaky.iter().map(|test| test.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(flaky("ok 1 - a\nok 2 - b", &["not ok 1 - a\nok 2 - b"]), "a");
        assert_eq!(flaky("not ok 1 - a", &["ok 1 - a"]), "a");
        assert_eq!(flaky("not ok 1 - a", &["not ok 1 - a"]), "");
        assert_eq!(flaky("ok 1 - a", &["ok 1 - a", "not ok 1 - a", "not ok 1 - a"]), "a");
        assert_eq!(flaky("ok 1 - b", &["not ok 1 - a"]), "", "it was not run again");
        assert_eq!(flaky("ok 1 - a # SKIP", &["not ok 1 - a"]), "");
        assert_eq!(flaky("ok 1 - a", &["ok 1 - a\nnot ok 2 - a"]), "", "two tests have that name");
        assert_eq!(flaky("ok 1 - a", &[]), "");
    }
}
