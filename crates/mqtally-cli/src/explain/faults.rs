//! What can go wrong on purpose.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        words: &["strikes", "strike", "faults", "--faults", "nemesis"],
        title: "what strikes in a run, and how to write it",
        text: "\
Group `faults` of 'mqtally test' plays each kind of fault in the middle of traffic at QoS 1 and 2, over both versions: cuts before, inside and after every packet of both handshakes on the publisher's and on the subscriber's side, and the rest of this list. The seed decides order, packet numbers and endings. 'mqtally test --list' names the kinds; --faults takes names and single strikes, with commas between them, and 'none' leaves all faults out.
A strike is a rule of the fault proxy, or a deed at a packet:
    cut rst after s2c PUBREL 2          close at the second PUBREL to the subscriber
    cut fin inside c2s PUBACK bytes=1   in the middle of a packet
    storm 3 within 10ms                 connect three more times at once
    takeover before s2c PUBREC          half-open, takeover, kill-client, wipe-client,
    kill-process after c2s PUBREC 2     kill-process, wipe-process,
    pause-broker after c2s PUBLISH for 80ms    pause-broker, terminate-broker, kill-broker
    cut fin before s2c PUBREC window=21        with so many messages in flight
Where a link is the publisher's and where it is the subscriber's follows from packet and direction: c2s PUBLISH and s2c PUBREC are the publisher's, s2c PUBLISH and c2s PUBREC the subscriber's. A strike that never happened makes the verdict unknown.
When a promise of severity S1 or S2 is broken in this group, the run is repeated with fewer strikes until no strike can be left out (at most 40 runs, and 90 seconds), and the command for those that are left is printed. --no-shrink leaves that.",
    },
    Entry {
        words: &["windows", "window"],
        title: "windows below and above the broker's limits, cut while they are full",
        text: "\
Some brokers break only when more is in flight than they take at a time. On MQTT 5 the broker announces that number (receive maximum), and a client keeps to it; on 3.1.1 nobody says anything, and limits of 10, 20 and 100 are usual. The run publishes with windows just below and above, lets subscribers take little and much, and cuts both links in the middle.",
    },
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
        words: &["F7", "connect-storm", "storm"],
        title: "several connections with one client id within milliseconds",
        text: "The last one wins, and the session survives.",
    },
    Entry {
        words: &["stray-pubrel"],
        title: "a PUBREL names an exchange that the client has never seen",
        text: "\
While the client was away somebody took its session, received a QoS 2 message up to PUBREL, and left. The client answers with PUBCOMP (in MQTT 5 with whatever reason), and the exchange is over; one that lets it lie is asked again on every connection.",
    },
    Entry {
        words: &["lose-session"],
        title: "the broker forgets a client's session while the client is away",
        text: "CONNACK says session present 0. The client gives up what it had in flight (MQTT 5 requires it) and subscribes again.",
    },
    Entry {
        words: &["stall"],
        title: "one side of a connection is not read for a while",
        text: "Its window fills, and everything comes late. Nothing is lost by it.",
    },
    Entry {
        words: &["F8", "terminate-broker", "stop-broker"],
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
        words: &["F11", "kill-process", "wipe-process"],
        title: "a client process is killed",
        text: "\
With its store it resumes where it was; without one it has forgotten its half of the session, and what QoS 2 knew about repeats with it.
kill-process and wipe-process: 'mqtally sub' and 'mqtally pub' run as processes of their own behind the fault proxy, and are killed with SIGKILL while their link is held still at a packet of a handshake. The next process finds the store of the last one (kill-process), or none (wipe-process). Every run kills one at each packet of both handshakes on both sides, and some without their store. What the subscriber acknowledged it has to process, across all its kills (A3); what its store took with it nobody asks for.
Your own program (--subject-pub, --subject-sub) is killed by SIGKILL, too, with all of its process group.",
    },
    Entry {
        words: &["kill-client", "wipe-client"],
        title: "a client within the run dies (F11)",
        text: "\
Its connection is reset in the middle of a handshake; what it knew is there afterwards (kill-client), or forgotten, and it begins a clean session (wipe-client). A broker cannot tell that from SIGKILL, behind which the kernel closes the socket. What SIGKILL does to a process and its store, kill-process shows.",
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
