//! A5: a program comes back under the client id whose session it asked for.
//!
//! It may have several client ids, and a life of its process may end before it has come to all of them. So it is wrong
//! only when, behind the end of its process, it asks for a session under an id that it never had before, and the old one
//! is not seen again in its part of the run.

use super::wrong::Wrong;
use crate::checker::excerpt::{Direction, line, packet};
use crate::checker::ledger::{Evidence, Ledger, Scope};
use crate::checker::world::{ClientIx, GroupIx, Moment, World};
use crate::packet::{Connect, Packet};
use crate::promise::PromiseId;
use std::collections::BTreeSet;

/// Which client ids a program had, and which it came back to.
#[derive(Debug, Default)]
pub(super) struct Returns {
    seen: BTreeSet<ClientIx>,
    /// Sessions whose process ended, and that it has not come back to.
    left: Vec<Left>,
}

#[derive(Debug)]
struct Left {
    client: ClientIx,
    /// The first session under a new id that it asked for since.
    instead: Option<(ClientIx, Moment, Connect)>,
}

impl Returns {
    pub(super) fn ended(&mut self, client: ClientIx) {
        if self.left.iter().all(|it| it.client != client) {
            self.left.push(Left { client, instead: None });
        }
    }

    pub(super) fn connected(&mut self, world: &World, client: ClientIx, it: &Connect, ledger: &mut Ledger) {
        let before = self.left.len();
        self.left.retain(|left| left.client != client);
        if self.left.len() < before && world.client(client).expiry > 0 {
            ledger.oblige(PromiseId::A5, world.client(client).version);
        }
        if self.seen.insert(client) && it.session_expiry > 0 {
            let group = world.client(client).group;
            for left in self.left.iter_mut().filter(|left| world.client(left.client).group == group) {
                left.instead.get_or_insert_with(|| (client, world.now, it.clone()));
            }
        }
    }

    pub(super) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let left = std::mem::take(&mut self.left);
        let (here, rest) = left.into_iter().partition(|it| world.client(it.client).group == group);
        self.left = rest;
        let here: Vec<Left> = here;
        for it in here.into_iter().filter(|it| world.client(it.client).expiry > 0) {
            if let Some(instead) = it.instead {
                judge(world, it.client, &instead, ledger);
            }
        }
    }
}

fn judge(
    world: &World,
    client: ClientIx,
    (other, at, connect): &(ClientIx, Moment, Connect),
    ledger: &mut Ledger,
) {
    let (old, new) = (world.client(client), &world.client(*other).name);
    ledger.oblige(PromiseId::A5, old.version);
    // One habit of one program, however often it shows.
    let scope = Scope { cause: Wrong::AnotherClientId as u64, ..world.client_scope(client) };
    ledger.broken(world, PromiseId::A5, scope, || {
        let mut lines = world.control_lines(client, 0);
        lines.push(line(*at, new, Direction::Out, packet(&Packet::Connect(connect.clone()))));
        Evidence { message: Wrong::AnotherClientId.sentence(&old.name, &format!("CONNECT of {new}")), lines }
    });
}
