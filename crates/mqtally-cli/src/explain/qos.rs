//! The three levels, and the choice between them.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        words: &["qos", "choose", "choice"],
        title: "which QoS for what",
        text: "\
Ask what a lost message costs, and what one processed twice costs.
  a loss is repaired by the next message, soon ....... QoS 0
  a loss hurts, twice is harmless or recognised ...... QoS 1
  a loss hurts, twice hurts, nobody can recognise it . QoS 2
For example:
  factory      temperature, every second ............. QoS 0  the next one is a second away
               anomaly alert ......................... QoS 1  must arrive; a repeated alert has the same id
               cooling command ....................... QoS 2  must act, once
  smart home   light state ........................... QoS 0  retained, so that a newcomer sees the last one
               security alert ........................ QoS 1  must arrive; rather twice than never
               door lock ............................. QoS 2  must act, once
The effective QoS of a delivery is the lower of the publisher's and the one granted to the subscription: publishing at QoS 2 to a subscription at QoS 0 gives QoS 0.
QoS 1 with an id in the message and a subscriber that remembers ids is effectively once, across restarts too, at half the packets of QoS 2. QoS 2 protects each hop of one session; when a session is lost, or a publisher sends the message anew, it no longer does.",
    },
    Entry {
        words: &["qos0", "0"],
        title: "QoS 0: at most once",
        text: "\
One PUBLISH, no answer. The message arrives once or not at all; nobody finds out which.
Promised: no second copy [3.1.1:MQTT-4.3.1-1, 5.0:MQTT-4.3.1-1]. Not promised: that it arrives, or that a broker keeps it for a client that is away (it may).
So mqtally never counts a missing QoS 0 message as lost, but as unresolved; its status stays `sent`, never `confirmed`.
Choose it for readings that the next reading replaces.",
    },
    Entry {
        words: &["qos1", "1"],
        title: "QoS 1: at least once",
        text: "\
PUBLISH is answered by PUBACK. Until then the sender keeps the message, and sends it again, with DUP=1 and the same packet id, when the session is resumed on a new connection.
Promised: a message whose PUBACK came is delivered to every session that was subscribed before it was sent, in order, as long as the session lives (D1, O1). Lawful: a second copy after a reconnect.
The subscriber must therefore recognise what it has processed: by an id in the message, never by the packet id, which is used again, nor by the DUP flag, which marks a repeated packet and not a repeated message.
Choose it for what must arrive, such as alerts.",
    },
    Entry {
        words: &["qos2", "2"],
        title: "QoS 2: exactly once",
        text: "\
PUBLISH → PUBREC → PUBREL → PUBCOMP. Until PUBREC the sender may repeat PUBLISH with the same packet id, and the receiver knows it by that id; after PUBREL only PUBREL is repeated.
Promised: a message whose PUBCOMP came is delivered once, neither lost (D2) nor twice (D3), while the sessions at both hops live. The promise holds per hop: the broker takes the message over at PUBREC, and the subscriber's copy is another exchange.
Not promised: anything across a lost session, or for a message that its publisher sends anew under another packet id.
Choose it for commands that act in the world and that the receiver cannot recognise when they are repeated.",
    },
];
