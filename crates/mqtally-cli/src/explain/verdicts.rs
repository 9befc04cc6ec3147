//! The words of a report.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        words: &["kept"],
        title: "the promise was put to the test and held",
        text: "\
Every obligation of the run was met, and there was at least one. Over a whole run: every exercised promise was kept, and every promise that the run set out to exercise was exercised. Exit status 0.",
    },
    Entry {
        words: &["broken"],
        title: "the promise did not hold, and the packets prove it",
        text: "\
Either MQTT itself forbids what happened, or the durability that the broker declares does (see `profile`). Each cause is one finding with its severity, how often it happened, and the packets. Exit status 1.",
    },
    Entry {
        words: &["unknown"],
        title: "it could not be judged",
        text: "\
The broker went away, a stream was not drained to its sentinel, events could not be recorded, the run was interrupted, or a promise that had to be exercised was not. The report says which. Neither good nor bad is claimed: run it again. Exit status 2.",
    },
    Entry {
        words: &["not-exercised"],
        title: "nothing in the run put it to the test",
        text: "\
A run in which no connection was cut says nothing about resumption. A promise without a single obligation is therefore never called kept. Where the run had set out to exercise it, the whole verdict is unknown.",
    },
    Entry {
        words: &["warn", "warning"],
        title: "odd, but no normative statement forbids it",
        text: "\
Something that a client should be prepared for and a broker's author may want to know. It does not change the verdict of the run.",
    },
    Entry {
        words: &["severity", "s1", "s2", "s3", "s4"],
        title: "how much a broken promise matters",
        text: "\
Findings are listed most severe first. `S1` to `S4` are also names of promises about sessions.
  S1  data: lost, duplicated at QoS 2, reordered, invented, corrupt
  S2  session or flow state is wrong, which can cause S1
  S3  a flag or book-keeping is wrong: DUP, packet ids
  S4  something takes for ever",
    },
    Entry {
        words: &["lost"],
        title: "owed to a session, and proved missing",
        text: "\
The message was acknowledged to its publisher, the session was subscribed before it was sent and lived on, and the sentinel, or another message of its stream, that was published behind it arrived while it did not. A time-out alone never proves a loss.",
    },
    Entry {
        words: &["duplicated", "duplicate", "duplicates"],
        title: "a second copy that breaks a promise",
        text: "\
At QoS 2 any second delivery within one session; at QoS 1 only one without a cause. Lawful second copies at QoS 1, after a reconnect, appear in the table of streams and nowhere else.",
    },
    Entry {
        words: &["reordered"],
        title: "first copies arrived in another order",
        text: "\
MQTT promises order for one publisher, one topic, one QoS and one session; across these, any order is lawful. 1 2 3 2 3 4 is lawful too: the first copies are in order. Counted is the fewest messages that would have to move.",
    },
    Entry {
        words: &["unexpected", "phantom"],
        title: "a delivery that nobody sent",
        text: "\
It claims to be of this run and was never published in it. Messages that an earlier run left at the broker are known by their run number and ignored.",
    },
    Entry {
        words: &["corrupt"],
        title: "payload or properties changed on the way",
        text: "Every message carries a checksum over its payload; the properties that a broker has to pass on are compared too.",
    },
    Entry {
        words: &["recovered"],
        title: "not acknowledged, and arrived all the same",
        text: "\
The acknowledgement was cut off, not the message. The publisher cannot know; neither arrival nor loss of such a message is ever a violation.",
    },
    Entry {
        words: &["unresolved"],
        title: "not acknowledged, and did not arrive",
        text: "\
Nobody promised anything about it: the publisher was never told that the broker had it. QoS 0 messages that did not arrive are counted here, for the same reason.",
    },
    Entry {
        words: &["excused"],
        title: "owed, but for a reason that lifts the promise",
        text: "\
Such as a queue limit that the broker announces, an expired message or session, a packet larger than the client takes, or a loss at a kill that the broker's profile does not cover. Excused messages are counted and shown beside the verdict, because a run that excuses much has shown little.",
    },
    Entry {
        words: &["profile", "volatile", "graceful", "durable", "power-safe"],
        title: "the durability that a broker declares",
        text: "\
MQTT does not promise that anything survives a restart: sessions in memory are a legitimate choice (3.1.1 section 4.1). So what must survive is judged by what the broker declares, with --profile:
  volatile    nothing survives a restart
  graceful    everything acknowledged survives an orderly stop (SIGTERM)
  durable     everything acknowledged survives kill -9
  power-safe  everything acknowledged survives loss of power
Whatever the profile, a broker that says session-present must have the session, with its subscriptions; and what was lost is printed even where it is excused.",
    },
    Entry {
        words: &["sentinel", "drain"],
        title: "how the end of a run is known",
        text: "\
After the faults are healed, each stream publishes one more message. Order is promised within a stream, so when it arrives everything before it has arrived, or never will. If it does not arrive in time the verdict is unknown; nothing is called lost.",
    },
    Entry {
        words: &["obligation", "exercised"],
        title: "a promise that the run really put to the test",
        text: "\
For delivery: one acknowledged message and one session that was subscribed before it was sent, at an effective QoS of at least 1, that lived until the drain. The table of promises counts them, by protocol version.",
    },
];
