//! The one shape of every benchmark's result.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Measurements of which the first and the last tenth are compared.
const TREND: usize = 100;

/// What a benchmark prints with `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    pub bench: &'static str,
    pub host: HostFacts,
    pub results: BTreeMap<&'static str, Distribution>,
    /// Quotients of medians of `results`.
    pub ratios: BTreeMap<&'static str, f64>,
    /// What a reader has to know beside the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What the figures depend on.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub accelerator: String,
    pub monitor: String,
    /// Optimised builds only are worth quoting.
    pub release_build: bool,
}

/// A sample's quantiles, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distribution {
    pub n: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub unit: &'static str,
    /// How many a second, where several were under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

impl Distribution {
    /// Of times, in milliseconds. `None` for no times.
    pub fn of_times(times: &[Duration]) -> Option<Self> {
        let milliseconds: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Self::of_values(&milliseconds, "ms")
    }

    /// Of values in any unit. `None` for no values.
    pub fn of_values(values: &[f64], unit: &'static str) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |quantile: f64| {
            let position = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(position.saturating_sub(1)).map(|value| rounded(*value))
        };
        Some(Self { n: sorted.len(), p50: rank(0.5)?, p90: rank(0.9)?, p99: rank(0.99)?, unit, rate: None })
    }
}

impl BenchReport {
    /// A report without figures.
    pub fn new(bench: &'static str, accelerator: String, monitor: String) -> Self {
        let host = HostFacts::read(accelerator, monitor);
        Self { bench, host, results: BTreeMap::new(), ratios: BTreeMap::new(), notes: Vec::new() }
    }

    /// Adds the quotient of two medians, if both are there.
    pub fn add_ratio(&mut self, name: &'static str, over: &str, under: &str) {
        if let (Some(over), Some(under)) = (self.results.get(over), self.results.get(under))
            && under.p50 > 0.0
        {
            self.ratios.insert(name, rounded(over.p50 / under.p50));
        }
    }

    /// Adds how the last of many measurements compare with the first, so that what grows with time shows. Nothing below
    /// `TREND` measurements.
    pub fn add_trend(&mut self, name: &'static str, in_order: &[Duration]) {
        let window = in_order.len() / 10;
        if in_order.len() < TREND {
            return;
        }
        let median = |times: &[Duration]| Distribution::of_times(times).map(|figures| figures.p50);
        let (first, last) = (median(&in_order[..window]), median(&in_order[in_order.len() - window..]));
        if let (Some(first), Some(last)) = (first.filter(|first| *first > 0.0), last) {
            self.ratios.insert(name, rounded(last / first));
            self.notes.push(format!("{name}: medians of the last and the first {window} of {}", in_order.len()));
        }
    }

    /// Adds the quotient of two rates, if both are there.
    pub fn add_rate_ratio(&mut self, name: &'static str, over: &str, under: &str) {
        let rate = |name| self.results.get(name).and_then(|figures: &Distribution| figures.rate);
        if let (Some(over), Some(under)) = (rate(over), rate(under).filter(|rate| *rate > 0.0)) {
            self.ratios.insert(name, rounded(over / under));
        }
    }

    /// The report as a table for people.
    pub fn table(&self) -> String {
        let host = &self.host;
        let mut text = format!(
            "{} on {} × {}, {} MiB, Linux {}, {} ({})\n",
            self.bench, host.cpus, host.cpu, host.memory_mib, host.kernel, host.accelerator, host.monitor
        );
        if !host.release_build {
            text.push_str("warning: this is not an optimised build; its figures say little\n");
        }
        text.push_str(&format!("{:<28} {:>5} {:>10} {:>10} {:>10}\n", "", "n", "p50", "p90", "p99"));
        for (name, figures) in &self.results {
            let Distribution { n, p50, p90, p99, unit, rate } = figures;
            let rate = rate.map_or_else(String::new, |rate| format!(", {rate:.0} a second"));
            text.push_str(&format!("{name:<28} {n:>5} {p50:>10.1} {p90:>10.1} {p99:>10.1} {unit}{rate}\n"));
        }
        for (name, ratio) in &self.ratios {
            text.push_str(&format!("{name:<28} {ratio:>16.3}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }
}

/// Three digits behind the point: more would only be noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl HostFacts {
    fn read(accelerator: String, monitor: String) -> Self {
        let field = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = field(&meminfo, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: kernel.trim().to_owned(),
            accelerator,
            monitor,
            release_build: !cfg!(debug_assertions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let expected = Distribution { n: 100, p50: 50.0, p90: 90.0, p99: 99.0, unit: "ms", rate: None };
        assert_eq!(Distribution::of_times(&times), Some(expected));
        assert_eq!(Distribution::of_times(&[]), None);
    }

    #[test]
    fn what_grows_shows() {
        let mut report = BenchReport::new("create", "tcg".into(), "QEMU".into());
        let growing: Vec<Duration> = (0..1000).map(|run| Duration::from_millis(100 + run / 10)).collect();
        report.add_trend("few", &growing[..99]);
        report.add_trend("many", &growing);
        assert_eq!(report.ratios.keys().copied().collect::<Vec<_>>(), ["many"]);
        assert!((1.8..1.9).contains(&report.ratios["many"]), "{:?}", report.ratios);
    }
}
