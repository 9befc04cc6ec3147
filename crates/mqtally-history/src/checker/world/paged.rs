//! Values by sequence number: dense where numbers are, and bounded by what was set, whatever they are.

use rustc_hash::FxHashMap;

const PAGE: u64 = 64;

/// A map from sequence numbers that allocates a page for each 64 neighbours.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    pages: FxHashMap<u64, Box<[T; PAGE as usize]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: FxHashMap::default() }
    }
}

impl<T: Copy + Default> Paged<T> {
    /// The value at `sequence`, when its page exists.
    pub(crate) fn at(&self, sequence: u64) -> Option<&T> {
        self.pages.get(&(sequence / PAGE)).map(|page| &page[(sequence % PAGE) as usize])
    }

    /// The value at `sequence`, made where it is new.
    pub(crate) fn entry(&mut self, sequence: u64) -> &mut T {
        let page =
            self.pages.entry(sequence / PAGE).or_insert_with(|| Box::new([T::default(); PAGE as usize]));
        &mut page[(sequence % PAGE) as usize]
    }

    /// Every value of every page, by ascending sequence.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(|number| {
            (0..PAGE).zip(self.pages[&number].iter()).map(move |(at, value)| (number * PAGE + at, value))
        })
    }

    /// Every value below `end`, by ascending sequence.
    pub(crate) fn below(&self, end: u64) -> impl Iterator<Item = (u64, &T)> {
        self.iter().take_while(move |(sequence, _)| *sequence < end)
    }

    /// Forgets every page that lies below `end`.
    pub(crate) fn forget_below(&mut self, end: u64) {
        self.pages.retain(|page, _| (page + 1) * PAGE > end);
    }

    /// The end of the last page that lies below `end`.
    pub(crate) fn whole_pages(end: u64) -> u64 {
        end / PAGE * PAGE
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pages = FxHashMap::default();
    }
}
