//! Metrics as Prometheus sees them.

use std::collections::BTreeMap;

use super::http;

/// The values of all series at an address, by name and labels.
pub(crate) async fn scrape(url: &str) -> BTreeMap<String, f64> {
    let (status, text) = http::get(url).await.unwrap();
    assert_eq!(status, 200, "{text}");
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}
