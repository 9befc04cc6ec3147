//! Connections from CONNECT to their end, and what they make of a client's session.

use super::client::{Away, Client, Connection, Expected, Known, Why};
use super::{ClientIx, ConnIx, Moment, NEVER, World};
use crate::checker::excerpt::Direction;
use crate::event::{Closing, ConnectionId, Role};
use crate::marker::Identity;
use crate::packet::{Connack, Connect, Version};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

impl World {
    pub(super) fn opened(&mut self, id: ConnectionId, name: &Arc<str>, version: Version, role: Role) {
        let client = match self.client_of_name.get(name) {
            Some(client) => *client,
            None => self.new_client(name, version),
        };
        self.clients[client as usize].version = version;
        // Whoever else comes with the id of a program under test, it stays that program's.
        if role == Role::Subject {
            self.clients[client as usize].role = role;
        }
        let connection = self.connections.len() as ConnIx;
        self.connection_of_id.insert(id, connection);
        self.connections.push(Connection {
            id,
            client,
            version,
            connect: None,
            connect_sent: self.now,
            known_before: Known::Never,
            maybe_fresh: false,
            role,
            accepted: NEVER,
            accepted_ns: u64::MAX,
            connack: None,
            took_over: None,
            refused: false,
            closed: None,
            closed_at: Moment { place: NEVER, at_ns: u64::MAX },
            previous: None,
            last_sent: self.now,
            pings: VecDeque::new(),
            read_up_to: 0,
            released_up_to: FxHashMap::default(),
            acked_up_to: 0,
            said_goodbye: None,
            told_goodbye: None,
            last_heard_ns: self.now.at_ns,
            unanswered: 0,
            asked_ns: self.now.at_ns,
            served_ns: self.now.at_ns,
            last_heard: 0,
            last_publish_ns: 0,
            last_acked_ns: 0,
            resumed: false,
            overrode_expiry: false,
            subscribes: FxHashMap::default(),
            unsubscribes: FxHashMap::default(),
        });
    }

    pub(super) fn new_client(&mut self, name: &Arc<str>, version: Version) -> ClientIx {
        let client = self.clients.len() as ClientIx;
        let group = self.group_here(version);
        self.lineages += 1;
        self.clients.push(Client::new(name, version, group, self.lineages));
        self.client_of_name.insert(Arc::clone(name), client);
        client
    }

    /// Whether another connection of the client was accepted after this one: what comes on this one is late.
    pub(crate) fn is_superseded(&self, at: ConnIx) -> bool {
        let connection = self.connection(at);
        let last = self.client(connection.client).last_accepted;
        last.is_some_and(|last| last != at && self.connection(last).accepted > connection.accepted)
    }

    pub(super) fn break_lineage(&mut self, client: ClientIx, why: Why) {
        self.lineages += 1;
        self.clients[client as usize].break_lineage(self.lineages, why, self.now.place);
    }

    pub(super) fn connect_sent(&mut self, at: ConnIx, connect: &Connect) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        let client_ix = connection.client;
        let client = &mut self.clients[client_ix as usize];
        connection.known_before = client.known;
        connection.maybe_fresh = client.maybe_fresh;
        client.maybe_fresh |= client.expected(client.known, now.at_ns, now.at_ns) != Expected::Present;
        connection.connect = Some(connect.clone());
        connection.connect_sent = now;
        connection.previous = client.last_connect;
        client.last_connect = Some(at);
        let packet_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        client.least_packet_max = client.least_packet_max.min(packet_max);
        // Until CONNACK comes nobody knows whether the broker read it.
        if connect.clean_start || connect.session_expiry == 0 {
            client.known = Known::Doubtful("a CONNECT that could end the session was not answered");
        } else if client.known != Known::Exists {
            client.known = Known::Doubtful("a CONNECT that could begin a session was not answered");
        }
        if connect.clean_start {
            self.break_lineage(client_ix, Why::CleanStart);
        }
        if let Some(will) = &connect.will {
            match will.message.identity {
                Identity::Ours(marker) => drop(self.wills.insert(marker.message)),
                _ => self.note_unmarked(&will.message),
            }
        }
    }

    /// Others, of which the history shows nothing, have connected with the CONNECT that waits for its answer: they may
    /// have begun a session, or ended one that does not outlive its connection.
    pub(super) fn stormed(&mut self, client: ClientIx) {
        let client = self.client(client);
        let (Some(at), may_begin) = (client.last_connect, client.maybe_fresh) else { return };
        let connection = &mut self.connections[at as usize];
        let lasts = connection.connect.as_ref().is_some_and(|connect| connect.session_expiry > 0);
        let is_open = connection.accepted == NEVER && connection.closed.is_none();
        if is_open && (may_begin || !lasts) {
            connection.known_before = Known::Doubtful("a storm's connections had the same CONNECT");
            connection.maybe_fresh = true;
        }
    }

    pub(super) fn connack(&mut self, at: ConnIx, connack: &Connack) {
        let expected = self.expected(self.connection(at));
        let connection = &mut self.connections[at as usize];
        let (client_ix, connect_sent) = (connection.client, connection.connect_sent);
        if connack.reason != 0 || connection.accepted != NEVER {
            connection.refused |= connack.reason != 0;
            return;
        }
        let Some(connect) = connection.connect.clone() else { return };
        connection.accepted = self.now.place;
        connection.accepted_ns = self.now.at_ns;
        connection.connack = Some(Box::new(connack.clone()));
        connection.resumed = connack.session_present && !connect.clean_start;
        if connect.clean_start {
            self.clients[client_ix as usize].discard_subscriptions(connect_sent.place, self.now.place);
        } else if !connack.session_present {
            self.session_absent(client_ix, expected);
        } else if connection.maybe_fresh {
            self.break_lineage(client_ix, Why::Gone);
        }
        self.accepted(at, connack, connack.session_expiry.unwrap_or(connect.session_expiry));
    }

    pub(super) fn session_absent(&mut self, client: ClientIx, expected: Option<Expected>) {
        let first = self.client(client).online.is_empty() && self.client(client).breaks.is_empty();
        if !first {
            let why = if expected == Some(Expected::Present) { Why::Lost } else { Why::Gone };
            self.break_lineage(client, why);
        }
    }

    pub(super) fn accepted(&mut self, at: ConnIx, connack: &Connack, expiry: u32) {
        let now = self.now.place;
        let (resumed, served_ns) = (self.connection(at).resumed, self.connection(at).served_ns);
        self.connections[at as usize].took_over = self.taken_over(at);
        let asked = self.connection(at).connect.as_ref().map_or(0, |connect| connect.session_expiry);
        let limit = connack.session_expiry.filter(|granted| *granted < asked);
        self.expiry_max = self.expiry_max.min(limit.unwrap_or(u32::MAX));
        let client = &mut self.clients[self.connections[at as usize].client as usize];
        if let Some(open) = client.online.last_mut().filter(|_| client.current.is_some()) {
            open.1 = now;
        }
        client.online.push((now, NEVER));
        client.known = Known::Exists;
        client.maybe_fresh = false;
        client.expiry = expiry;
        client.away = None;
        client.current = Some(at);
        client.served_ns = served_ns;
        client.last_accepted = Some(at);
        client.sent_up_to.clear();
        if client.session_present.len() < 100 {
            client.session_present.push(connack.session_present);
        }
        if resumed {
            client.resumed += 1;
            client.resumes.push(now);
        }
    }

    /// The client's connection that is open, or was when this one asked to be accepted.
    pub(crate) fn taken_over(&self, at: ConnIx) -> Option<ConnIx> {
        let connection = self.connection(at);
        let old = self.client(connection.client).last_accepted.filter(|old| *old != at)?;
        let it = self.connection(old);
        let closed_by_it = it.closed == Some(Closing::ByBroker) && it.said_goodbye.is_none();
        (it.closed.is_none() || (closed_by_it && it.closed_at.place > connection.connect_sent.place))
            .then_some(old)
    }

    /// The client says goodbye, and may set another expiry interval with it.
    pub(super) fn goodbye(&mut self, at: ConnIx, reason: u8, expiry: Option<u32>) {
        let connection = &mut self.connections[at as usize];
        connection.said_goodbye = Some(reason);
        let Some(expiry) = expiry else { return };
        connection.overrode_expiry = true;
        let client = &mut self.clients[connection.client as usize];
        if client.expiry == 0 && expiry > 0 {
            client.known = Known::Doubtful("a DISCONNECT set an expiry where CONNECT had set none");
        }
        if expiry > self.expiry_max {
            client.known = Known::Doubtful("a DISCONNECT asked for a longer life than the server grants");
        }
        client.expiry = expiry;
    }

    pub(super) fn closed(&mut self, at: ConnIx, closing: Closing) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        if connection.closed.is_some() {
            return;
        }
        connection.closed = Some(closing);
        connection.closed_at = now;
        let (client_ix, served_ns) = (connection.client, connection.served_ns);
        let unread = connection.overrode_expiry
            && matches!(closing, Closing::Rst | Closing::Broken | Closing::Vanished);
        self.note(client_ix, Direction::None, closing_text(closing));
        let client = &mut self.clients[client_ix as usize];
        if client.current != Some(at) {
            return;
        }
        client.current = None;
        client.note_waiting(at, now);
        if let Some(open) = client.online.last_mut() {
            open.1 = now.place;
        }
        // Whoever ends it: on a dead connection the broker may have given up before.
        let unnoticed = matches!(closing, Closing::Broken | Closing::Vanished);
        client.away = Some(Away { earliest_ns: served_ns, latest_ns: (!unnoticed).then_some(now.at_ns) });
        if unread {
            client.known = Known::Doubtful("a DISCONNECT that set the expiry may not have been read");
        }
        if client.expiry == 0 {
            if client.known == Known::Exists {
                client.known = Known::Ended;
            }
            self.break_lineage(client_ix, Why::Ended);
        }
    }

    pub(super) fn wiped(&mut self, name: &Arc<str>) {
        if let Some(client) = self.client_named(name) {
            self.break_lineage(client, Why::Wiped);
            self.note(client, Direction::None, "forgets its session");
        }
    }

    /// The client's process is gone, and its session goes on.
    pub(super) fn process_ended(&mut self, name: &Arc<str>) {
        if let Some(client) = self.client_named(name) {
            self.note(client, Direction::None, "its process ends, its store is kept");
        }
    }
}

fn closing_text(closing: Closing) -> &'static str {
    match closing {
        Closing::ByBroker => "closed by the broker",
        Closing::Fin => "closed by the client",
        Closing::Rst => "reset by the client",
        Closing::Broken => "the connection broke",
        Closing::Vanished => "the client fell silent",
    }
}
