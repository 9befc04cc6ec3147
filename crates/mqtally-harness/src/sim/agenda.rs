//! What is to happen, in the order of virtual time; of the same moment, what was planned first comes first.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Agenda<T> {
    due: BTreeMap<(Duration, u64), T>,
    planned: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), planned: 0 }
    }
}

impl<T> Agenda<T> {
    pub(super) fn plan(&mut self, at: Duration, what: T) {
        self.planned += 1;
        self.due.insert((at, self.planned), what);
    }

    pub(super) fn next(&mut self) -> Option<(Duration, T)> {
        self.due.pop_first().map(|((at, _), what)| (at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_first_for_a_moment_comes_first() {
        let mut agenda = Agenda::default();
        for (at, what) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            agenda.plan(Duration::from_secs(at), what);
        }
        let order: String = std::iter::from_fn(|| agenda.next()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcd");
    }
}
