//! Tables for people: aligned, and cut to the terminal's width. Pure.
//!
//! Cells are texts of strangers: they are on one line and without control characters before anything is measured.

use super::terminal::{Look, Style, one_line};

/// Between two columns.
const GAP: &str = "  ";

/// The narrowest that a column is cut to.
const NARROWEST: usize = 8;

/// One cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    pub(super) fn styled(text: &str, style: Style) -> Self {
        Self { text: one_line(text), style: Some(style) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: one_line(text.as_ref()), style: None }
    }
}

/// A table with a heading.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[Cell; COLUMNS]>,
    /// Columns that may be cut; ids, for one, are of no use then.
    flexible: &'static [usize],
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table whose columns with the `flexible` indices are cut where it would be too wide.
    pub(super) fn new(headings: [&str; COLUMNS], flexible: &'static [usize]) -> Self {
        Self { rows: vec![headings.map(|text| Cell::styled(text, Style::BOLD))], flexible }
    }

    pub(super) fn row(&mut self, cells: [Cell; COLUMNS]) {
        self.rows.push(cells);
    }

    /// The lines, without a line end after the last. Where they are too long for the terminal, the widest of the flexible columns are cut.
    pub(super) fn render(&self, look: Look) -> String {
        let widths = self.widths(look.width);
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| shown(cell, width, look));
            cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn widths(&self, limit: Option<usize>) -> [usize; COLUMNS] {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = console::measure_text_width(&cell.text).max(*width);
            }
        }
        let gaps = GAP.len() * COLUMNS.saturating_sub(1);
        let Some(room) = limit.map(|limit| limit.saturating_sub(gaps)) else { return widths };
        while widths.iter().sum::<usize>() > room {
            let widest = self.flexible.iter().copied().max_by_key(|column| widths[*column]);
            let Some(column) = widest.filter(|column| widths[*column] > NARROWEST) else { break };
            widths[column] -= 1;
        }
        widths
    }
}

/// A cell, cut or filled to `width` columns.
fn shown(cell: &Cell, width: usize, look: Look) -> String {
    let text = console::truncate_str(&cell.text, width, "…");
    let filling = " ".repeat(width.saturating_sub(console::measure_text_width(&text)));
    let text = match cell.style {
        Some(style) => look.paint(style, &text),
        None => text.into_owned(),
    };
    format!("{text}{filling}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new(["JOB", "NAME", "STATE"], &[1]);
        table.row(["job-3f8k".into(), "test (ubuntu, stable, all features)".into(), Cell::styled("ok", Style::GREEN)]);
        table.row(["job-9".into(), "构建\nand \x1b]0;x\x07more".into(), "running".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_cut_where_the_terminal_ends() {
        let pipe = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table().render(pipe), @"
        JOB       NAME                                 STATE
        job-3f8k  test (ubuntu, stable, all features)  ok
        job-9     构建 and more                        running
        ");
        insta::assert_snapshot!(table().render(Look { width: Some(32), ..pipe }), @"
        JOB       NAME           STATE
        job-3f8k  test (ubuntu…  ok
        job-9     构建 and more  running
        ");
        let narrow = table().render(Look { width: Some(5), ..pipe });
        assert!(narrow.contains("job-3f8k  test (u…  ok"), "{narrow}");
        let coloured = table().render(Look { is_terminal: true, has_colours: true, width: None });
        assert!(coloured.contains("\x1b[32mok\x1b[0m"), "{coloured:?}");
    }
}
