//! The one shape of every benchmark's result.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What a benchmark prints with `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    pub bench: &'static str,
    pub host: HostFacts,
    pub results: BTreeMap<&'static str, Distribution>,
    /// Quotients of medians of `results`.
    pub ratios: BTreeMap<&'static str, f64>,
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
}

impl Distribution {
    /// Of times, in milliseconds. `None` for no times.
    pub fn of_times(times: &[Duration]) -> Option<Self> {
        let mut milliseconds: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        let rank = |quantile: f64| {
            let position = (quantile * milliseconds.len() as f64).ceil() as usize;
            milliseconds.get(position.saturating_sub(1)).map(|value| (value * 1000.0).round() / 1000.0)
        };
        Some(Self { n: milliseconds.len(), p50: rank(0.5)?, p90: rank(0.9)?, p99: rank(0.99)?, unit: "ms" })
    }
}

impl BenchReport {
    /// A report without figures.
    pub fn new(bench: &'static str, accelerator: String, monitor: String) -> Self {
        let host = HostFacts::read(accelerator, monitor);
        Self { bench, host, results: BTreeMap::new(), ratios: BTreeMap::new() }
    }

    /// Adds the quotient of two medians, if both are there.
    pub fn add_ratio(&mut self, name: &'static str, over: &str, under: &str) {
        if let (Some(over), Some(under)) = (self.results.get(over), self.results.get(under))
            && under.p50 > 0.0
        {
            self.ratios.insert(name, (over.p50 / under.p50 * 1000.0).round() / 1000.0);
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
            let Distribution { n, p50, p90, p99, unit } = figures;
            text.push_str(&format!("{name:<28} {n:>5} {p50:>10.1} {p90:>10.1} {p99:>10.1} {unit}\n"));
        }
        for (name, ratio) in &self.ratios {
            text.push_str(&format!("{name:<28} {ratio:>16.3}\n"));
        }
        text
    }
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
        let expected = Distribution { n: 100, p50: 50.0, p90: 90.0, p99: 99.0, unit: "ms" };
        assert_eq!(Distribution::of_times(&times), Some(expected));
        assert_eq!(Distribution::of_times(&[]), None);
    }
}
