//! `reports` of a profile: which files of a job are reports, and of which format.

use crate::document::{Complaint, Item};
use crate::report::pattern::Pattern;
use crate::report::{Kind, MAX_ENTRIES, Wanted};

/// A list of tables with `kind` and `path`.
pub(super) fn read(item: &Item<'_>) -> Option<Vec<Wanted>> {
    let items = item.list()?;
    if let Some(excess) = items.get(MAX_ENTRIES) {
        excess.refuse(format!("more than {MAX_ENTRIES} entries"));
        return None;
    }
    let wanted: Vec<Option<Wanted>> = items.iter().map(entry).collect();
    wanted.into_iter().collect()
}

fn entry(item: &Item<'_>) -> Option<Wanted> {
    let table = item.table(&["kind", "path"])?;
    let kind = table.required_hint("kind", "like `kind = \"junit\"`").and_then(|item| {
        item.one_of(&Kind::ALL.map(|kind| (kind.as_str(), kind)))
    });
    let path = table.required_hint("path", "like `path = \"target/**/junit.xml\"`");
    let path = path.and_then(|item| item.parse(|text| Pattern::parse(text).map_err(Complaint::new)));
    Some(Wanted { kind: kind?, path: path? })
}
