//! lcov's tracefiles: `SF` begins a file, `DA` and `BRDA` tell of its lines and branches, `LF`, `LH`, `BRF` and `BRH` of their
//! numbers where they are not told one by one.

use std::collections::BTreeMap;

use super::model::{Ratio, Sink};

/// Lines of one report.
const MAX_LINES: usize = 5_000_000;

/// Bytes of what tells a branch from others.
const MAX_BRANCH: usize = 1000;

/// A file that is being read. Of several tests with the same line each may have hit it.
#[derive(Debug, Default)]
struct File {
    name: String,
    lines: BTreeMap<u32, bool>,
    /// By line, block and branch; the latter may be names.
    branches: BTreeMap<String, bool>,
    said_lines: Ratio,
    said_branches: Ratio,
}

pub(super) fn read(text: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let mut open: Option<File> = None;
    let mut is_report = false;
    for line in text.lines().take(MAX_LINES) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("SF:") {
            finish(open.take(), sink);
            open = Some(File { name: name.trim().to_owned(), ..File::default() });
            is_report = true;
        } else if line == "end_of_record" {
            finish(open.take(), sink);
        } else if let (Some(file), Some((key, value))) = (&mut open, line.split_once(':')) {
            take(file, key, value);
        }
    }
    let is_cut = open.is_some();
    finish(open, sink);
    match (is_report, is_cut) {
        (false, _) => Err("it has no `SF:`".to_owned()),
        (true, true) => Err("its last record has no end".to_owned()),
        (true, false) => Ok(()),
    }
}

fn take(file: &mut File, key: &str, value: &str) {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    match key {
        "DA" => {
            let mut parts = value.split(',');
            if let (Some(line), Some(hits)) = (parts.next().and_then(|line| line.trim().parse().ok()), parts.next()) {
                *file.lines.entry(line).or_default() |= number(hits) > 0;
            }
        }
        "BRDA" => {
            let Some((branch, hits)) = value.rsplit_once(',') else { return };
            if branch.matches(',').count() >= 2 && branch.len() <= MAX_BRANCH {
                *file.branches.entry(branch.to_owned()).or_default() |= number(hits) > 0;
            }
        }
        "LF" => file.said_lines.of = number(value),
        "LH" => file.said_lines.hit = number(value),
        "BRF" => file.said_branches.of = number(value),
        "BRH" => file.said_branches.hit = number(value),
        _ => {}
    }
}

fn finish(file: Option<File>, sink: &mut Sink<'_>) {
    let Some(File { name, lines, branches, said_lines, said_branches }) = file else { return };
    let count = |seen: &mut dyn Iterator<Item = bool>| {
        let mut ratio = Ratio::default();
        seen.for_each(|is_hit| ratio.count(is_hit));
        ratio
    };
    let either = |said: Ratio, counted: Ratio| if said.of > 0 { said } else { counted };
    let lines = either(said_lines, count(&mut lines.into_values()));
    let branches = either(said_branches, count(&mut branches.into_values()));
    sink.covered(&name, lines, branches);
}

#[cfg(test)]
mod tests {
    use crate::report::{Kind, Ratio, Results, read};

    #[test]
    fn lines_and_branches_are_counted_or_said() {
        let text = "TN:unit\nSF:/w/src/a.c\nDA:1,4\nDA:2,0\nDA:2,1\nDA:3,0\nBRDA:2,0,0,1\nBRDA:2,0,1,-\nend_of_record\n\
                    SF:src/b.c\r\nLF:10\r\nLH:5\r\nend_of_record\r\n";
        let mut results = Results::default();
        read(Kind::Lcov, "lcov.info", text.as_bytes(), "/w", &mut results);
        results.settle();
        assert_eq!(results.coverage.lines, Ratio { hit: 7, of: 13 });
        assert_eq!(results.coverage.branches, Ratio { hit: 1, of: 2 });
        let files: Vec<&str> = results.coverage.files.iter().map(|file| file.file.as_str()).collect();
        assert_eq!(files, ["src/b.c", "src/a.c"]);
        assert!(results.notes.is_empty());
        let text = "SF:a\nBRDA:10,0,jump to 12,1\nBRDA:10,0,return, then exit,-\nBRDA:10,0,1\nend_of_record\n";
        let mut named = Results::default();
        read(Kind::Lcov, "lcov.info", text.as_bytes(), "/w", &mut named);
        named.settle();
        assert_eq!(named.coverage.branches, Ratio { hit: 1, of: 2 });
        for text in ["", "SF:a\nDA:1,1\n"] {
            let mut results = Results::default();
            read(Kind::Lcov, "lcov.info", text.as_bytes(), "/w", &mut results);
            assert_eq!(results.notes.len(), 1);
        }
    }
}
