use super::labels::{EventKind, JobEnd, Received};
use super::*;
use crate::forge::Conclusion;

fn metrics() -> Metrics {
    Metrics::new(["linux", "big"])
}

/// Name, type, labels and help of every metric; labels are told from the series.
fn described(text: &str) -> String {
    let mut lines = Vec::new();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = help.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let series = text.lines().find(|line| line.starts_with(name)).unwrap();
        let labels = series.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels: Vec<&str> =
            labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).filter(|name| *name != "le").collect();
        lines.push(format!("{name} {kind} [{}] {help}", labels.join(" ")));
    }
    lines.join("\n")
}

#[test]
fn these_are_all_metrics() {
    insta::assert_snapshot!(described(&metrics().encode().unwrap()));
}

#[test]
fn the_documentation_names_every_metric_and_no_other() {
    let text = metrics().encode().unwrap();
    let known: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let documented: Vec<&str> = include_str!("../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
        .collect();
    for metric in &known {
        let (name, kind) = metric.split_once(' ').unwrap();
        let row = include_str!("../../docs/metrics.md").lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("`{name}` is not in docs/metrics.md"));
        assert!(row.split('|').nth(2).unwrap().trim().starts_with(kind), "{name} is a {kind}");
    }
    assert_eq!(documented.len(), known.len(), "docs/metrics.md has names that are none");
}

#[test]
fn everything_is_there_from_the_start_and_bounded() {
    let text = metrics().encode().unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1_000, "{series} series");
    for expected in [
        "dayfly_deliveries_total{event=\"push\",result=\"accepted\"} 0",
        "dayfly_jobs_finished_total{conclusion=\"error\",reason=\"vm_lost\"} 0",
        "dayfly_job_queue_seconds_count{profile=\"big\"} 0",
        "dayfly_forge_rate_limit_remaining NaN",
        "dayfly_vms{state=\"stopping\"} 0",
    ] {
        assert!(text.lines().any(|line| line == expected), "no `{expected}`");
    }
}

#[test]
fn nothing_that_happens_makes_a_new_series() {
    let metrics = metrics();
    let names = |metrics: &Metrics| -> Vec<String> {
        let text = metrics.encode().unwrap();
        text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let before = names(&metrics);
    for hostile in ["push", "x\"} 1\nevil{a=\"", "", "PUSH", "заказ"] {
        let event = EventKind::of(Some(hostile.as_bytes()));
        metrics.deliveries.answered(event, Received::RefusedSignature, std::time::Duration::from_millis(1));
    }
    for end in JobEnd::all() {
        metrics.store.job_finished(end);
    }
    metrics.note_counts(&StoreCounts::default(), 0);
    assert_eq!(names(&metrics), before);
    assert!(JobEnd::all().contains(&JobEnd(Conclusion::Success, None)));
}
