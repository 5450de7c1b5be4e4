//! Metrics whose label values are closed sets, known to the type system.
//!
//! The library takes any text as a label. Here a label is a type with a list of all its values: no text of a stranger can
//! become a series, the number of series is known when the program is written, and each of them exists from the first
//! scrape on. (A series that appears with its first event has lost that event for `rate()` and `increase()`.)

use std::marker::PhantomData;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// What every name begins with.
const NAMESPACE: &str = "dayfly";

/// A label, or several, with all values that there can be.
pub trait Label: Copy + 'static {
    /// The labels' names.
    fn names() -> Vec<&'static str>;
    /// All values.
    fn all() -> Vec<Self>;
    /// What stands in the series of this value, one word for each name.
    fn words(self) -> Vec<&'static str>;
}

impl<A: Label, B: Label> Label for (A, B) {
    fn names() -> Vec<&'static str> {
        [A::names(), B::names()].concat()
    }

    fn all() -> Vec<Self> {
        A::all().into_iter().flat_map(|a| B::all().into_iter().map(move |b| (a, b))).collect()
    }

    fn words(self) -> Vec<&'static str> {
        [self.0.words(), self.1.words()].concat()
    }
}

/// One counter for each value of a label.
#[derive(Debug, Clone)]
pub struct Counters<L>(IntCounterVec, PhantomData<fn(L)>);

impl<L: Label> Counters<L> {
    /// One more.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// So many more.
    pub fn add(&self, label: L, count: u64) {
        self.0.with_label_values(&label.words()).inc_by(count);
    }
}

/// One gauge for each value of a label.
#[derive(Debug, Clone)]
pub struct Gauges<L>(IntGaugeVec, PhantomData<fn(L)>);

impl<L: Label> Gauges<L> {
    /// So many now.
    pub fn set(&self, label: L, count: u64) {
        self.0.with_label_values(&label.words()).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// One distribution of times for each value of a label.
#[derive(Debug, Clone)]
pub struct Times<L>(HistogramVec, PhantomData<fn(L)>);

impl<L: Label> Times<L> {
    /// Something took this long.
    pub fn observe(&self, label: L, took: Duration) {
        self.0.with_label_values(&label.words()).observe(took.as_secs_f64());
    }
}

/// Makes metrics and registers them.
#[derive(Debug, Default)]
pub(super) struct Maker {
    pub(super) registry: Registry,
}

impl Maker {
    /// # Panics
    /// For a name that is no name or was given before: a mistake in this program, which every start of it would show.
    pub(super) fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names, help and buckets are constants of this program");
        self.registry.register(Box::new(metric.clone())).expect("each name is given once");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Opts::new(name, help).namespace(NAMESPACE)))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Opts::new(name, help).namespace(NAMESPACE)))
    }

    /// A gauge that may say that nothing is known: it is NaN until it is set, and no alert compares true with that.
    pub(super) fn unknown_gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = self.register(Gauge::with_opts(Opts::new(name, help).namespace(NAMESPACE)));
        gauge.set(f64::NAN);
        gauge
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(Histogram::with_opts(histogram_options(name, help, buckets)))
    }

    pub(super) fn counters<L: Label>(&self, name: &str, help: &str) -> Counters<L> {
        let family = self.register(IntCounterVec::new(Opts::new(name, help).namespace(NAMESPACE), &L::names()));
        for value in L::all() {
            family.with_label_values(&value.words());
        }
        Counters(family, PhantomData)
    }

    pub(super) fn gauges<L: Label>(&self, name: &str, help: &str) -> Gauges<L> {
        let family = self.register(IntGaugeVec::new(Opts::new(name, help).namespace(NAMESPACE), &L::names()));
        for value in L::all() {
            family.with_label_values(&value.words());
        }
        Gauges(family, PhantomData)
    }

    pub(super) fn times<L: Label>(&self, name: &str, help: &str, buckets: &[f64]) -> Times<L> {
        let family = self.register(HistogramVec::new(histogram_options(name, help, buckets), &L::names()));
        for value in L::all() {
            family.with_label_values(&value.words());
        }
        Times(family, PhantomData)
    }

    /// Distributions by profile: the one label whose values are the operator's, from a file that bounds their number.
    pub(super) fn by_profile(&self, name: &str, help: &str, buckets: &[f64], profiles: &[&str]) -> HistogramVec {
        let family = self.register(HistogramVec::new(histogram_options(name, help, buckets), &["profile"]));
        for profile in profiles {
            family.with_label_values(&[profile]);
        }
        family
    }

    /// Says which version runs, in the form that dashboards join with.
    pub(super) fn build_info(&self) {
        let options = Opts::new("build_info", "Always 1; the label says which version runs.").namespace(NAMESPACE);
        let info = self.register(IntGauge::with_opts(options.const_label("version", env!("CARGO_PKG_VERSION"))));
        info.set(1);
    }
}

fn histogram_options(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec())
}
