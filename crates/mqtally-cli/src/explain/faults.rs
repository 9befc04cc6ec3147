//! What can go wrong on purpose.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        words: &["F0"],
        title: "no fault",
        text: "Connections stay up, processes stay alive. What breaks here breaks everywhere.",
    },
    Entry {
        words: &["F1", "cut-subscriber", "cut-fin", "cut-rst"],
        title: "the subscriber's connection is cut",
        text: "\
In order (FIN), by reset (RST), or in the middle of a packet. On resumption the broker repeats what was unacknowledged, with the same packet ids and DUP=1, and owed PUBRELs. A reset may discard bytes that the client had sent: its last acknowledgement may never have been read, so a repeat of that packet is lawful.",
    },
    Entry {
        words: &["F2", "cut-publisher"],
        title: "the publisher's connection is cut",
        text: "\
The publisher resumes and repeats what was unacknowledged. At QoS 2 the broker must know the repeated packet id and forward the message once.",
    },
    Entry {
        words: &["F3", "black-hole", "half-open"],
        title: "the connection is dead, and nobody says so",
        text: "\
No FIN, no RST: packets vanish. The broker finds out by keep-alive (after one and a half times the interval), or when the client takes its session over on a new connection.",
    },
    Entry {
        words: &["F4", "takeover"],
        title: "a second connection with the same client id",
        text: "\
The broker closes the first one (in MQTT 5 with DISCONNECT 0x8E) and the session goes on with the second: nothing lost, nothing twice.",
    },
    Entry {
        words: &["F5", "cut-before-packet", "lost-puback"],
        title: "a connection is cut just before a chosen packet",
        text: "\
Such as the third PUBREC, or a PUBACK. MQTT runs over an ordered stream without loss, so a packet is never taken out of a living stream: the connection is cut before it.",
    },
    Entry {
        words: &["F6", "aborted-connect"],
        title: "CONNECT is sent, and the connection closed before CONNACK is read",
        text: "The broker may have taken the session over for a client that never knew. The session must still be there afterwards.",
    },
    Entry {
        words: &["F7", "connect-storm"],
        title: "several connections with one client id within milliseconds",
        text: "The last one wins, and the session survives.",
    },
    Entry {
        words: &["F8", "terminate-broker"],
        title: "the broker is asked to stop (SIGTERM) and started again",
        text: "From profile `graceful` on, everything acknowledged is there afterwards.",
    },
    Entry {
        words: &["F9", "kill-broker"],
        title: "the broker is killed (SIGKILL) and started again",
        text: "\
It has no chance to write anything, but what it handed to the operating system survives. From profile `durable` on, everything acknowledged is there afterwards: messages, sessions, subscriptions, retained messages, and the state of QoS 2 exchanges, so that nothing comes twice.",
    },
    Entry {
        words: &["F10", "power-loss"],
        title: "power is lost: what was not synced to disk is gone",
        text: "Only profile `power-safe` promises that everything acknowledged is there afterwards.",
    },
    Entry {
        words: &["F11", "kill-client"],
        title: "a client process is killed",
        text: "With a store it resumes where it was; without one it has forgotten its half of the session, and what QoS 2 knew about repeats with it.",
    },
    Entry {
        words: &["F12", "pause-broker"],
        title: "the broker is stopped and continued (SIGSTOP, SIGCONT)",
        text: "Everything is late, nothing is lost.",
    },
    Entry {
        words: &["F13", "slow-consumer"],
        title: "a subscriber does not read",
        text: "The broker's queue for it grows until a declared limit; other subscribers must not notice.",
    },
    Entry {
        words: &["F14", "segmentation"],
        title: "packets arrive byte by byte, or many in one read",
        text: "TCP is a stream; where its segments end means nothing.",
    },
    Entry {
        words: &["F15", "late-acks"],
        title: "acknowledgements come late and out of order",
        text: "A client that does this breaks the rules itself [MQTT-4.6.0-2]; it shows only how robust a broker is.",
    },
];
