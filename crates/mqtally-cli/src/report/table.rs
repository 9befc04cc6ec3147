//! A table without rules: columns that line up, in at most as many columns as the terminal has.

use super::style::{DIM, Look, PLAIN};
use super::words::visible;
use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Spaces before each line.
const INDENT: usize = 2;
/// A column that gives way keeps at least this many columns.
const SHRUNK_MIN: usize = 8;

/// Where a column's texts stand, and whether they may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Names; never cut.
    Left,
    /// Numbers; never cut.
    Right,
    /// Long texts; cut in the middle of nowhere when the terminal is narrow.
    Elastic,
}

/// A text and its style.
#[derive(Debug, Clone)]
pub(super) struct Cell(String, Style);

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell(visible(text.as_ref()), PLAIN)
    }
}

impl Cell {
    pub(super) fn styled(text: &str, style: Style) -> Cell {
        Cell(visible(text), style)
    }
}

/// A table in the making.
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    lines: Vec<Line<N>>,
}

enum Line<const N: usize> {
    Cells([Cell; N]),
    Heading(String),
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(Column, &str); N]) -> Table<N> {
        let titles = columns.map(|(_, title)| Cell::styled(title, DIM));
        Table { columns: columns.map(|(column, _)| column), lines: vec![Line::Cells(titles)] }
    }

    /// Without titles.
    pub(super) fn bare(columns: [Column; N]) -> Table<N> {
        Table { columns, lines: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.lines.push(Line::Cells(cells));
    }

    /// A line across all columns, above rows that belong together.
    pub(super) fn heading(&mut self, text: &str) {
        self.lines.push(Line::Heading(visible(text)));
    }

    /// The lines, each with its line feed.
    pub(super) fn render(&self, look: Look) -> String {
        let (widths, gap) = self.fit(look.width.saturating_sub(INDENT));
        let mut text = String::new();
        for line in &self.lines {
            let line = match line {
                Line::Heading(heading) => look.paint(DIM, heading),
                Line::Cells(cells) => self.line(cells, &widths, gap, look),
            };
            text.push_str(&" ".repeat(INDENT));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[Cell; N], widths: &[usize; N], gap: usize, look: Look) -> String {
        let mut line = String::new();
        for (index, Cell(text, style)) in cells.iter().enumerate() {
            let text = cut(text, widths[index]);
            let space = " ".repeat(widths[index].saturating_sub(text.width()));
            let text = look.paint(*style, &text);
            line.push_str(&" ".repeat(if index == 0 { 0 } else { gap }));
            line.push_str(&if self.columns[index] == Column::Right { space + &text } else { text + &space });
        }
        line
    }

    /// Natural widths and wide gaps where there is room; else narrow gaps; else the widest elastic columns give way.
    fn fit(&self, room: usize) -> ([usize; N], usize) {
        let mut widths = self.natural();
        let spare = |widths: &[usize; N], gap: usize| {
            room.checked_sub(widths.iter().sum::<usize>() + gap * N.saturating_sub(1))
        };
        if spare(&widths, 2).is_some() {
            return (widths, 2);
        }
        while spare(&widths, 1).is_none() {
            let elastic = (0..N).filter(|index| self.columns[*index] == Column::Elastic);
            match elastic.max_by_key(|index| widths[*index]) {
                Some(index) if widths[index] > SHRUNK_MIN => widths[index] -= 1,
                _ => break,
            }
        }
        (widths, 1)
    }

    fn natural(&self) -> [usize; N] {
        let mut widths = [0; N];
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                for (width, Cell(text, _)) in widths.iter_mut().zip(cells) {
                    *width = text.width().max(*width);
                }
            }
        }
        widths
    }
}

/// At most `width` columns of the text, the last of them an ellipsis where something was cut off.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if kept.width() + c.width().unwrap_or(0) + 1 > width {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table =
            Table::new([(Column::Elastic, "topic"), (Column::Right, "sent"), (Column::Left, "word")]);
        table.row(["sensors/temperature/one".into(), "1,200".into(), "kept".into()]);
        table.row(["温度".into(), "3".into(), "x".into()]);
        table
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let text = table().render(Look { width: 80, colour: false });
        assert_eq!(
            text,
            "  topic                     sent  word\n  sensors/temperature/one  1,200  kept\n  温度                         3  x\n"
        );
    }

    #[test]
    fn an_elastic_column_gives_way_to_a_narrow_terminal() {
        let text = table().render(Look { width: 26, colour: false });
        assert!(text.contains("sensors/temp… 1,200 kept"), "{text}");
        assert!(text.lines().all(|line| line.width() <= 26), "{text}");
    }
}
