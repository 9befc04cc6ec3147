//! What the live page shows, in the words that it shows.

use mqtally_history::report::Verdict;
use serde::Serialize;

/// Everything on the page.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct View {
    pub(crate) title: String,
    pub(crate) state: State,
    /// Nothing changes any more, and why.
    pub(crate) over: Option<String>,
    /// Who it is and where, as names and values.
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) tables: Vec<Table>,
}

/// How it stands, in a word and a sentence.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct State {
    pub(crate) word: String,
    pub(crate) sentence: String,
    pub(crate) tone: Tone,
}

/// Makes a colour of what the words say already; the names are the style sheet's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tone {
    #[default]
    NotExercised,
    Kept,
    Unknown,
    Broken,
}

/// A number with its name.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// What stands below it, smaller.
    pub(crate) note: String,
    pub(crate) is_wrong: bool,
}

/// Curves over time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    /// Behind a number that is read out: `a second`, `ms`.
    pub(crate) unit: &'static str,
    pub(crate) is_logarithmic: bool,
    pub(crate) curves: Vec<Curve>,
    /// Points from the left edge to the right one; the last point of each curve is at the right.
    pub(crate) points: usize,
    /// What stands below the left and the right edge.
    pub(crate) ends: [String; 2],
    /// Moments, such as faults, in points from the left.
    pub(crate) marks: Vec<f64>,
    /// Stretches, such as a broker that is away, in points from the left.
    pub(crate) bands: Vec<[f64; 2]>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// None where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Table {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) note: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
    /// What stands there instead of no rows.
    pub(crate) empty: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
    /// A word that has the row's colour.
    Word(&'static str),
    /// Typewriter type, breaks anywhere.
    Code(&'static str),
    /// Does not break.
    Time(&'static str),
    /// A button, where the row has one.
    Action(&'static str),
}

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Row {
    /// Tells it from the others as long as it is there.
    pub(crate) key: String,
    pub(crate) cells: Vec<String>,
    pub(crate) tone: Tone,
    /// It has a button that asks for the replay of the dead letter of this number.
    pub(crate) replay: Option<u64>,
    /// It was asked for already.
    pub(crate) is_asked: bool,
}

impl From<Verdict> for Tone {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Kept => Self::Kept,
            Verdict::NotExercised => Self::NotExercised,
            Verdict::Warn | Verdict::Unknown => Self::Unknown,
            Verdict::Broken => Self::Broken,
        }
    }
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: impl Into<String>, note: impl Into<String>) -> Self {
        Self { name, value: value.into(), note: note.into(), is_wrong: false }
    }

    /// The same, to be looked at where `is_wrong`.
    pub(crate) fn wrong_if(self, is_wrong: bool) -> Self {
        Self { is_wrong, ..self }
    }
}
