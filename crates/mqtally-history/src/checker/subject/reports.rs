//! A3 and A4: what a program under test says of itself, against the wire.

use super::{Acknowledged, Session};
use crate::checker::excerpt::{Direction, Line, ack, line};
use crate::checker::ledger::{Evidence, Ledger, Scope};
use crate::checker::world::message::State;
use crate::checker::world::{ClientIx, Moment, World};
use crate::marker::MessageId;
use crate::promise::PromiseId;

/// A4: a program says that it published a message.
pub(crate) fn judge_claim(world: &World, client: &str, id: MessageId, ledger: &mut Ledger) {
    let Some(ix) = world.client_named(client) else {
        return ledger.unknown(format!("{client}, which never connected, said that it published"));
    };
    ledger.oblige(PromiseId::A4, world.client(ix).version);
    let state = world.message(id).map_or(State::NeverSent, |(_, message)| message.state);
    let qos = world.stream_of(id).map_or(0, |stream| world.stream(stream).qos);
    let (why, over) = match state {
        State::NeverSent => ("had not sent it", world.stream_of(id).is_some_and(|it| world.stream(it).over)),
        State::Indeterminate => ("had no acknowledgement for it", qos == 0),
        State::Refused => ("had been refused", false),
        State::Owned | State::Complete => return,
    };
    if over {
        return;
    }
    ledger.broken(world, PromiseId::A4, world.client_scope(ix), || Evidence {
        message: format!(
            "the program under test, {client}, said that it published message {} and {why}. MQTT: a message is the \
             broker's when PUBACK or PUBREC is read, and not when it is handed to the socket. To mend it: report from \
             the callback of the acknowledgement, and count what is still open as not published",
            id.sequence
        ),
        lines: vec![line(world.now, client, Direction::None, format!("published message {}", id.sequence))],
    });
}

/// A3: what was acknowledged is reported, if something behind it is.
pub(super) fn judge_reports(world: &World, ix: ClientIx, session: &Session, ledger: &mut Ledger) {
    let client = world.client(ix);
    for (stream, reported) in &session.reported {
        ledger.oblige_many(PromiseId::A3, client.version, reported.len() as u64);
        let last = reported.last().copied().unwrap_or(0);
        let scope = world.client_scope(ix);
        let scope = Scope { cause: scope.cause | u64::from(*stream), ..scope };
        let missing = session.acknowledged.range((*stream, 0)..(*stream, last));
        for ((_, sequence), it) in missing {
            ledger.oblige(PromiseId::A3, client.version);
            ledger.broken(world, PromiseId::A3, scope, || Evidence {
                message: format!(
                    "the program under test, {}, acknowledged message {sequence} of {} ({} id {}) and never processed \
                     it, though it processed a later one. MQTT: what is acknowledged the broker forgets. To mend it: \
                     acknowledge when the message is processed or stored for good, not when it arrives; with many \
                     libraries that is manual acknowledgement, and at QoS 2 it is PUBREC that has to wait",
                    client.name,
                    world.stream(*stream).topic,
                    it.packet,
                    it.id
                ),
                lines: lines(&client.name, *sequence, it, &session.ends),
            });
        }
    }
}

/// What it acknowledged, and the end of its process behind that.
fn lines(client: &str, sequence: u64, it: &Acknowledged, ends: &[Moment]) -> Vec<Line> {
    let text = |packet: &str| format!("{} message {sequence}", ack(packet, it.id, 0));
    let first = it.taken.unwrap_or(it.at);
    let end = ends.iter().find(|end| end.place > first.place);
    let taken = it.taken.map(|at| line(at, client, Direction::Out, text("PUBREC")));
    let ended = end.map(|at| line(*at, client, Direction::None, "its process ends"));
    let acknowledged = line(it.at, client, Direction::Out, text(it.packet));
    taken.into_iter().chain(ended).chain([acknowledged]).collect()
}
