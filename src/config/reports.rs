//! `reports`: which files of a job are reports, and of which format. They stand in a profile of the operator's configuration,
//! or in a file of the repository, beside the directory of its workflows.

use crate::document::{Complaint, Diagnostic, Findings, Item, Reader, toml};
use crate::report::pattern::Pattern;
use crate::report::{Kind, MAX_ENTRIES, Wanted};

/// The name of a repository's own file.
const FILE_NAME: &str = "reports.toml";

/// Bytes of a repository's own file.
pub const MAX_REPOSITORY_FILE: u32 = 64 << 10;

/// Where the repository of a workflow's file may name reports of its own.
pub fn repository_path(workflow_file: &str) -> String {
    let above = |path: &str| path.rsplit_once('/').map_or_else(String::new, |(directory, _)| directory.to_owned());
    match above(&above(workflow_file)).as_str() {
        "" => FILE_NAME.to_owned(),
        directory => format!("{directory}/{FILE_NAME}"),
    }
}

/// Reads the text of a repository's own file, which has the key `reports` of a profile.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn read_repository_file(file: &str, text: &str) -> Result<Vec<Wanted>, Vec<Diagnostic>> {
    let toml::Document { root, errors: damaged } = toml::read(file, text)?;
    if !damaged.is_empty() {
        return Err(damaged);
    }
    let reader = Reader::new(file).of_tables();
    let wanted = reader.root(&root).table(&["reports"]).and_then(|table| read(&table.required("reports")?));
    let Findings { errors, .. } = reader.finish();
    match wanted {
        Some(wanted) if errors.is_empty() => Ok(wanted),
        _ => Err(errors),
    }
}

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
    let kind = table
        .required_hint("kind", "like `kind = \"junit\"`")
        .and_then(|item| item.one_of(&Kind::ALL.map(|kind| (kind.as_str(), kind))));
    let path = table.required_hint("path", "like `path = \"target/**/junit.xml\"`");
    let path = path.and_then(|item| item.parse(|text| Pattern::parse(text).map_err(Complaint::new)));
    Some(Wanted { kind: kind?, path: path? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_names_its_own_beside_its_workflows() {
        assert_eq!(repository_path(".github/workflows/ci.yml"), ".github/reports.toml");
        assert_eq!(repository_path("ci.yml"), "reports.toml");
        let wanted = read_repository_file("r", "reports = [{ kind = \"tap\", path = \"out/*.tap\" }]\n").unwrap();
        assert_eq!((wanted.len(), wanted[0].kind, wanted[0].path.as_str()), (1, Kind::Tap, "out/*.tap"));
        let told = |text: &str| -> Vec<String> {
            read_repository_file("r", text).unwrap_err().iter().map(Diagnostic::to_string).collect()
        };
        for (text, words) in [
            ("", &["reports"][..]),
            ("reports = 1", &["r:1:11: reports"]),
            ("reports = [{ kind = \"jnuit\", path = \"../x\" }, { path = 1 }]", &["jnuit", "../x", "kind"]),
            ("reports = [", &["r:1:"]),
        ] {
            let told = told(text).join("\n");
            assert!(words.iter().all(|word| told.contains(word)), "{text}: {told}");
        }
    }
}
