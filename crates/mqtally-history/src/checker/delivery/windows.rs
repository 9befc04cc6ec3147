//! S5: filters that deliver nothing behind a resumption.

use super::Window;
use super::missing::{Missing, Owed, broken_off, lifted_by_message, missing_lines};
use crate::checker::ledger::{Evidence, Ledger, Scope};
use crate::checker::world::{ClientIx, World};
use crate::marker::Purpose;
use crate::promise::PromiseId;
use std::collections::{BTreeMap, BTreeSet};

/// Messages other than canaries that have to be missing behind a resumption for its filter to be called dead.
pub(super) const SILENT_MIN: u32 = 3;

/// S5: finds the filters that deliver nothing behind a resumption.
pub(super) fn judge_windows(
    world: &World,
    missing: &[Missing],
    alive: &BTreeSet<Window>,
    ledger: &mut Ledger,
) -> BTreeSet<Window> {
    for (client, ..) in alive {
        ledger.oblige(PromiseId::S5, world.client(*client).version);
    }
    let mut silent: BTreeMap<Window, (u32, &Missing)> = BTreeMap::new();
    let lifted = |it: &Missing| lifted_by_message(world, it).is_some() || broken_off(world, it).is_some();
    for it in missing.iter().filter(|it| it.why == Owed::Acknowledged && !lifted(it)) {
        for window in it.windows.iter().filter(|window| may_be_dead(world, window, alive)) {
            let weight = if it.message.purpose == Some(Purpose::Canary) { SILENT_MIN } else { 1 };
            silent.entry(*window).or_insert((0, it)).0 += weight;
        }
    }
    silent.retain(|_, (weight, first)| *weight >= SILENT_MIN && was_heard_after(world, first));
    for (window, (_, first)) in &silent {
        report_silent(world, *window, first, ledger);
    }
    silent.into_keys().collect()
}

/// Nothing came through the filter in this window or, before it was asked for again, in a later one; and no end of the
/// broker explains that.
pub(super) fn may_be_dead(world: &World, (ix, at, resume): &Window, alive: &BTreeSet<Window>) -> bool {
    let client = world.client(*ix);
    let resumed = client.resumes[*resume];
    let asked_before = |place| {
        let grants = &client.subscriptions[*at].grants;
        grants.iter().any(|grant| resumed < grant.asked && grant.asked < place)
    };
    let mut later = alive.range((*ix, *at, *resume)..=(*ix, *at, usize::MAX));
    !world.excused_since(resumed) && !later.any(|(.., later)| !asked_before(client.resumes[*later]))
}

/// The session was answered later, and owes no answer itself: its places are not taken by what was never finished.
pub(super) fn was_heard_after(world: &World, missing: &Missing) -> bool {
    let client = world.client(missing.client);
    let last = client.last_accepted.map(|at| world.connection(at));
    last.is_some_and(|it| it.last_heard > missing.message.acked) && !client.is_busy()
}

pub(super) fn report_silent(world: &World, (ix, at, resume): Window, first: &Missing, ledger: &mut Ledger) {
    let client = world.client(ix);
    ledger.oblige(PromiseId::S5, client.version);
    let filter = &client.subscriptions[at].filter;
    ledger.broken(world, PromiseId::S5, window_scope(world, ix, at), || Evidence {
        message: format!(
            "session {} was resumed (session present 1), and its filter {filter} delivers nothing since: message {} \
             of {} and all after it are missing",
            client.name,
            first.sequence,
            world.stream(first.stream).topic
        ),
        lines: [world.control_lines(ix, client.resumes[resume] - 1), missing_lines(world, first)].concat(),
    });
}

pub(super) fn window_scope(world: &World, client: ClientIx, at: usize) -> Scope {
    Scope { cause: u64::from(client) << 32 | at as u64, ..world.client_scope(client) }
}
