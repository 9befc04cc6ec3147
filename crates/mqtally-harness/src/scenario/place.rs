//! Where the values of a scenario file stand, by the spans of its parser: a file may write the same thing in many ways.

use toml::de::{DeTable, DeValue};

/// A value of the file: of the whole, or of an entry of one of its lists.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    entry: Option<(&'static str, usize)>,
    key: &'static str,
    item: Option<usize>,
}

impl Spot {
    pub(super) const fn top(key: &'static str) -> Spot {
        Spot { entry: None, key, item: None }
    }

    pub(super) const fn of(list: &'static str, place: usize, key: &'static str) -> Spot {
        Spot { entry: Some((list, place)), key, item: None }
    }

    /// The same entry's other key.
    pub(super) const fn key(self, key: &'static str) -> Spot {
        Spot { key, ..self }
    }

    /// One of the values in this list.
    pub(super) const fn item(self, item: usize) -> Spot {
        Spot { item: Some(item), ..self }
    }
}

/// A file in which values can be found again.
pub(super) struct Places<'a> {
    text: &'a str,
    root: DeValue<'a>,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str, table: DeTable<'a>) -> Places<'a> {
        Places { text, root: DeValue::Table(table) }
    }

    /// Line and column of the value; of the head of its entry where it was left out, of the beginning where there is none.
    pub(super) fn find(&self, spot: Spot) -> (usize, usize) {
        let entry = spot.entry.and_then(|(list, place)| self.root.get(list)?.get_ref().get(place));
        let value = entry.map_or(&self.root, |entry| entry.get_ref()).get(spot.key);
        let item = spot.item.and_then(|item| value?.get_ref().get(item));
        position(self.text, item.or(value).or(entry).map_or(0, |found| found.span().start))
    }

    /// The first that is not of the shape it has to have, and where: otherwise a list of values would be taken for a
    /// table, in the order in which this version happens to have its keys.
    pub(super) fn misshapen(&self) -> Option<(String, (usize, usize))> {
        let not_a_table = |key| self.root.get(key).filter(|value| !value.get_ref().is_table());
        let broker = not_a_table("broker").map(|value| ("'broker' is a table".to_owned(), value));
        let lists = ["streams", "subscribers", "faults"].into_iter().find_map(|list| {
            let value = self.root.get(list)?;
            let Some(entries) = value.get_ref().as_array() else {
                return Some((format!("'{list}' is a list of tables, each headed [[{list}]]"), value));
            };
            let entry = entries.iter().find(|entry| !entry.get_ref().is_table())?;
            Some((format!("an entry of '{list}' is a table"), entry))
        });
        broker.or(lists).map(|(what, value)| (what, position(self.text, value.span().start)))
    }
}

/// Line and column, from 1, of a byte of the text; a byte order mark counts for nothing.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let before = before.strip_prefix('\u{feff}').unwrap_or(before);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_found_at_what_it_would_stand_in() {
        let text = "a = 1\n[[list]]\nkey = [1, 2]\n  [[list]]\n";
        let places = Places::new(text, DeTable::parse(text).expect("a file").into_inner());
        let check = |spot: Spot, expect: (usize, usize)| assert_eq!(places.find(spot), expect);
        check(Spot::of("list", 0, "key").item(1), (3, 11));
        check(Spot::of("list", 0, "key").item(2), (3, 7));
        check(Spot::of("list", 0, "other"), (2, 1));
        check(Spot::of("list", 1, "key"), (4, 3));
        check(Spot::of("list", 2, "key"), (1, 1));
        check(Spot::top("a").key("b"), (1, 1));
    }
}
