//! Generations as a person or a program reads them.

use serde_json::json;

use crate::caches::Generation;
use crate::cli::table::Table;
use crate::cli::terminal::Look;
use crate::clock::{ago, now_ms};

/// Letters of a key or commit in a table.
const SHORT: usize = 12;

/// One row for each generation.
pub(super) fn table(generations: &[Generation]) -> String {
    let now = now_ms();
    let headings = ["CACHE", "GENERATION", "SIZE", "KEY", "COMMIT", "PUBLISHED", "USED", ""];
    let mut table = Table::new(headings, &[0]);
    for generation in generations {
        let info = &generation.info;
        table.row([
            info.cache.to_string().into(),
            info.number.to_string().into(),
            size(info.bytes).into(),
            short(&info.key).into(),
            short(&info.producer.sha).into(),
            ago(now, info.published_at).into(),
            ago(now, generation.used_at()).into(),
            if generation.is_in_use() { "in use" } else { "" }.into(),
        ]);
    }
    table.render(Look::of_stdout())
}

/// Everything about one generation.
pub(super) fn details(generation: &Generation) -> String {
    let now = now_ms();
    let info = &generation.info;
    let place = generation.volume();
    let lines = [
        ("cache", info.cache.to_string()),
        ("generation", info.number.to_string()),
        ("key", info.key.clone()),
        ("size", size(info.bytes)),
        ("published", ago(now, info.published_at)),
        ("last used", ago(now, generation.used_at())),
        ("in use", if generation.is_in_use() { "yes" } else { "no" }.to_owned()),
        ("commit", info.producer.sha.clone()),
        ("made by", info.producer.job.clone()),
        ("digest", info.digest.clone()),
        ("volume", place.display().to_string()),
    ];
    lines.map(|(name, value)| format!("{name:<11}{value}")).join("\n")
}

/// An array of what the descriptions say, and of how each one is used.
pub(super) fn json(generations: &[Generation]) -> serde_json::Result<String> {
    let described: Vec<_> = generations
        .iter()
        .map(|generation| {
            let info = &generation.info;
            json!({
                "cache": info.cache.to_string(),
                "generation": info.number,
                "key": info.key,
                "bytes": info.bytes,
                "digest": info.digest,
                "sha": info.producer.sha,
                "job": info.producer.job,
                "published_at": info.published_at,
                "used_at": generation.used_at(),
                "is_in_use": generation.is_in_use(),
                "volume": generation.volume(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&described)
}

/// `2 generations`.
pub(super) fn counted(count: usize) -> String {
    format!("{count} generation{}", if count == 1 { "" } else { "s" })
}

/// In MiB.
pub(super) fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT)]
}
