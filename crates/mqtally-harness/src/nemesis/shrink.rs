//! The search for the fewest strikes that still break something: delta debugging.
//!
//! A schedule is cut into parts; where a part alone, or all but a part, still breaks it, the search goes on in there,
//! and otherwise with smaller parts. It ends when no single strike can be left out, or after enough tries. The method is
//! that of Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).

use super::{Kind, Strike};
use std::collections::VecDeque;

/// A search. Ask for what to [`try_next`](Self::try_next) and [`tell`](Self::tell) what came of it, until nothing more is
/// asked for; [`least`](Self::least) is what is known so far.
#[derive(Debug, Clone)]
pub struct Shrinking<T> {
    least: Vec<T>,
    guess: Vec<T>,
    parts: usize,
    queue: VecDeque<Attempt>,
    trying: Option<(Attempt, Vec<T>)>,
    tries_left: usize,
    has_shrunk: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Guess,
    Part(usize),
    AllBut(usize),
}

/// A broker breaks many a promise only now and then, and the runs of a good guess are short.
const GUESS_TRIES: usize = 3;

impl Shrinking<Strike> {
    /// The search in a schedule, which begins with the strikes of one kind.
    pub fn suspecting(schedule: Vec<Strike>, kind: Option<&Kind>, tries_max: usize) -> Self {
        let guess: Vec<Strike> =
            schedule.iter().filter(|strike| Some(strike.kind()) == kind).cloned().collect();
        Self::guessing(schedule, guess, tries_max)
    }
}

impl<T: Clone> Shrinking<T> {
    /// The search for what is enough of `all`, in at most so many tries.
    pub fn new(all: Vec<T>, tries_max: usize) -> Self {
        let mut shrinking = Self {
            least: all,
            guess: Vec::new(),
            parts: 2,
            queue: VecDeque::new(),
            trying: None,
            tries_left: tries_max,
            has_shrunk: false,
        };
        shrinking.cut_into(2);
        shrinking
    }

    /// The same, which tries `guess` first, more than once.
    fn guessing(all: Vec<T>, guess: Vec<T>, tries_max: usize) -> Self {
        let mut shrinking = Self::new(all, tries_max);
        if !guess.is_empty() && guess.len() < shrinking.least.len() {
            (0..GUESS_TRIES).for_each(|_| shrinking.queue.push_front(Attempt::Guess));
        }
        Self { guess, ..shrinking }
    }

    /// What to try next; `None` when the search is over.
    pub fn try_next(&mut self) -> Option<Vec<T>> {
        if self.tries_left == 0 {
            return None;
        }
        let attempt = self.queue.pop_front()?;
        self.tries_left -= 1;
        let tried = self.chosen(attempt);
        self.trying = Some((attempt, tried.clone()));
        Some(tried)
    }

    /// Whether what was tried last breaks it, too.
    pub fn tell(&mut self, breaks: bool) {
        let Some((attempt, tried)) = self.trying.take() else { return };
        if breaks {
            self.least = tried;
            self.has_shrunk = true;
            let parts = if matches!(attempt, Attempt::AllBut(_)) { self.parts - 1 } else { 2 };
            self.cut_into(parts);
        } else if self.queue.is_empty() && self.parts < self.least.len() {
            self.cut_into(self.parts * 2);
        }
    }

    /// The fewest that are known to break it.
    pub fn least(&self) -> &[T] {
        &self.least
    }

    /// Whether something smaller than the whole has broken it.
    pub fn has_shrunk(&self) -> bool {
        self.has_shrunk
    }

    fn cut_into(&mut self, parts: usize) {
        self.parts = parts.clamp(2, self.least.len().max(2));
        self.queue.clear();
        if self.least.len() < 2 {
            return;
        }
        self.queue.extend((0..self.parts).map(Attempt::Part));
        // All but one of two parts is the other one.
        if self.parts > 2 {
            self.queue.extend((0..self.parts).map(Attempt::AllBut));
        }
    }

    fn chosen(&self, attempt: Attempt) -> Vec<T> {
        let bounds = |part: usize| part * self.least.len() / self.parts;
        let of = |part: usize| bounds(part)..bounds(part + 1);
        match attempt {
            Attempt::Guess => self.guess.clone(),
            Attempt::Part(part) => self.least[of(part)].to_vec(),
            Attempt::AllBut(part) => [&self.least[..of(part).start], &self.least[of(part).end..]].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches among `all` numbers for those that `breaks` needs. Returns them, and how many tries that took.
    fn search(all: u32, tries_max: usize, breaks: impl Fn(&[u32]) -> bool) -> (Vec<u32>, usize) {
        let mut shrinking = Shrinking::new((0..all).collect(), tries_max);
        let mut tries = 0;
        while let Some(candidate) = shrinking.try_next() {
            tries += 1;
            assert!(!candidate.is_empty());
            shrinking.tell(breaks(&candidate));
        }
        (shrinking.least().to_vec(), tries)
    }

    #[test]
    fn one_culprit_is_found_alone_wherever_it_stands() {
        for culprit in 0..37 {
            let (found, tries) = search(37, 100, |it| it.contains(&culprit));
            assert_eq!(found, [culprit]);
            assert!(tries <= 14, "{tries}");
        }
    }

    #[test]
    fn culprits_that_need_each_other_are_found_together() {
        for (first, second) in [(0, 36), (3, 4), (17, 20)] {
            let (found, _) = search(37, 500, |it| it.contains(&first) && it.contains(&second));
            assert_eq!(found, [first, second]);
        }
    }

    #[test]
    fn what_cannot_be_shrunk_stays_whole() {
        assert_eq!(search(5, 500, |it| it.len() == 5).0, [0, 1, 2, 3, 4]);
        assert_eq!(search(1, 500, |_| true), (vec![0], 0));
        assert_eq!(search(0, 500, |_| true), (vec![], 0));
    }

    #[test]
    fn a_search_ends_after_enough_tries_with_what_is_known() {
        let (found, tries) = search(64, 3, |it| it.contains(&9));
        assert_eq!(tries, 3);
        assert!(found.contains(&9) && found.len() < 64);
    }

    #[test]
    fn the_kind_that_is_suspected_is_tried_first_and_may_be_innocent() {
        let strikes: Vec<Strike> = ["split c2s 1", "takeover after s2c PUBLISH", "split s2c 1", "storm 3"]
            .map(|text| text.parse().expect("a strike"))
            .into();
        let suspect = Kind::from_name("segmentation");
        let mut shrinking = Shrinking::suspecting(strikes.clone(), suspect, 50);
        assert_eq!(shrinking.try_next(), Some(vec![strikes[0].clone(), strikes[2].clone()]));
        shrinking.tell(false);
        assert!(!shrinking.has_shrunk());
        // Once is no proof: many a promise is broken only now and then.
        assert_eq!(shrinking.try_next().map(|it| it.len()), Some(2));
        let mut caught = shrinking.clone();
        caught.tell(true);
        assert_eq!(caught.least(), [strikes[0].clone(), strikes[2].clone()]);
        shrinking.tell(false);
        while let Some(candidate) = shrinking.try_next() {
            shrinking.tell(candidate.contains(&strikes[3]));
        }
        assert_eq!(shrinking.least(), &strikes[3..]);
    }
}
