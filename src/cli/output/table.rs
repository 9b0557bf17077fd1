//! Tables that fit the terminal, and plain columns for everything else.

use comfy_table::{ColumnConstraint, ContentArrangement, Width, presets};

/// How many rows are looked at to choose the widths of the columns, and are held at once.
const PAGE: usize = 500;

/// Columns up to this width are not broken: a time in RFC 3339 and the space after it.
const WHOLE: u16 = 22;

/// The least width of a column whose cells are broken.
const BROKEN: u16 = 12;

/// Rows on their way out. Holds at most a page of them, so that a listing takes constant memory.
pub struct Table {
    columns: &'static [&'static str],
    /// The terminal's; `None` for tabs between cells, uncut and without a header, for `cut` and `awk`.
    width: Option<u16>,
    rows: Vec<Vec<String>>,
    /// The widths that the first page came to, at the least: the following ones line up with it.
    widths: Option<Vec<u16>>,
}

impl Table {
    /// No rows yet.
    pub fn new(columns: &'static [&'static str], width: Option<u16>) -> Self {
        Self { columns, width, rows: Vec::new(), widths: None }
    }

    /// Takes a row; answers text that is ready to be written.
    pub fn row(&mut self, cells: Vec<String>) -> Option<String> {
        if self.width.is_none() {
            return Some(cells.join("\t") + "\n");
        }
        self.rows.push(cells);
        (self.rows.len() == PAGE).then(|| self.rest())
    }

    /// The rows that are still held, as text.
    pub fn rest(&mut self) -> String {
        let (Some(width), false) = (self.width, self.rows.is_empty()) else { return String::new() };
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
        if self.widths.is_none() {
            table.set_header(self.columns);
        }
        table.add_rows(self.rows.drain(..));
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        let content: Vec<u16> = table.column_max_content_widths().iter().map(|w| w + 2).collect();
        let fits = total(content.iter().copied()) <= usize::from(width);
        let least = content.iter().map(|w| if *w <= WHOLE { *w } else { BROKEN });
        if !fits && total(least) > usize::from(width) {
            return self.records(&table);
        }
        // The widths of a squeezed page do not suit the next.
        let first = self.widths.get_or_insert_with(|| if fits { content.clone() } else { Vec::new() });
        let whole = content.iter().map(|w| if *w <= WHOLE { *w } else { 0 });
        let bounds: Vec<u16> = if first.is_empty() { whole.collect() } else { first.clone() };
        table.set_constraints(bounds.iter().map(|w| ColumnConstraint::LowerBoundary(Width::Fixed(*w))));
        let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }

    /// The rows as blocks of lines, one for each cell, where not even broken cells would fit side by side.
    fn records(&self, table: &comfy_table::Table) -> String {
        let width = self.columns.iter().map(|name| name.len()).max().unwrap_or(0);
        let line = |(name, cell): (&&str, String)| format!("{name:width$}  {cell}\n");
        let record = |row: &comfy_table::Row| {
            self.columns
                .iter()
                .zip(row.cell_iter().map(comfy_table::Cell::content))
                .map(line)
                .collect::<String>()
        };
        table.row_iter().map(record).collect::<Vec<_>>().join("\n")
    }
}

fn total(widths: impl Iterator<Item = u16>) -> usize {
    widths.map(usize::from).sum()
}

/// An arrow, or what stands for one where the locale has no UTF-8.
pub fn arrow() -> &'static str {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let name = locale.map(|value| value.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if name.contains("utf-8") || name.contains("utf8") { "→" } else { "->" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(String::from).to_vec()
    }

    #[test]
    fn pipes_get_tabs_and_nothing_is_cut() {
        let mut table = Table::new(&["NAME", "STATE"], None);
        let long = "x".repeat(300);
        assert_eq!(table.row(row([&long, "active"])), Some(format!("{long}\tactive\n")));
        assert_eq!(table.rest(), "");
    }

    #[test]
    fn terminals_get_a_header_and_fitting_lines() {
        let mut table = Table::new(&["NAME", "STATE"], Some(20));
        assert_eq!(table.row(row(["a", "active"])), None);
        assert_eq!(table.row(row([&"y".repeat(40), "active"])), None);
        let text = table.rest();
        assert!(text.starts_with("NAME"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
        assert_eq!(text.matches('y').count(), 40, "{text}");
    }

    #[test]
    fn times_are_not_broken() {
        const TIME: &str = "2027-01-31T10:00:00Z";
        let columns = &["VERSION", "PUT", "NOT BEFORE", "EXPIRES", "REASON"];
        for width in [80, 60, 40] {
            let mut table = Table::new(columns, Some(width));
            table.row(["1", TIME, TIME, TIME, &"because ".repeat(20)].map(String::from).to_vec());
            let text = table.rest();
            assert_eq!(text.matches(TIME).count(), 3, "{width}: {text}");
        }
    }

    #[test]
    fn later_pages_line_up_with_the_first() {
        let mut table = Table::new(&["NAME", "STATE"], Some(80));
        let first = (0..PAGE).find_map(|_| table.row(row(["a/long/name", "active"]))).unwrap();
        table.row(row(["b", "revoked"]));
        let second = table.rest();
        assert_eq!(first.lines().nth(1).unwrap().find("active"), second.find("revoked"));
        assert!(!second.contains("NAME"));
    }

    #[test]
    fn later_pages_fit_too() {
        let mut table = Table::new(&["NAME", "STATE"], Some(30));
        for _ in 0..PAGE {
            table.row(row([&"x".repeat(60), "active"]));
        }
        table.row(row([&"y".repeat(60), "suspended"]));
        let second = table.rest();
        assert!(second.contains("suspended"), "{second}");
        assert!(second.lines().all(|line| line.chars().count() <= 30), "{second}");
    }
}
