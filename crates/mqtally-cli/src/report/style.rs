//! How much room there is, and whether there is colour.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use std::io;

/// Narrower than this the tables make no sense; wider, the eye loses the line.
const WIDTH: std::ops::RangeInclusive<usize> = 80..=120;

pub(super) const TITLE: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const PLAIN: Style = Style::new();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const DOUBT: Style = AnsiColor::Yellow.on_default();

/// What the reader's terminal can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// In columns.
    pub(crate) width: usize,
    /// Whether colours are wanted and possible.
    pub(crate) colour: bool,
}

impl Look {
    /// Of no terminal: a file, a pipe, a log.
    pub(crate) const PLAIN: Look = Look { width: 100, colour: false };

    /// That of standard output. `NO_COLOR` and its relatives are respected.
    pub(crate) fn of_stdout() -> Look {
        let width = terminal_size::terminal_size_of(io::stdout());
        Look {
            width: width.map_or(Look::PLAIN.width, |(width, _)| {
                usize::from(width.0).clamp(*WIDTH.start(), *WIDTH.end())
            }),
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
        }
    }

    /// The text in a style, or as it is.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.colour && style != PLAIN { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
