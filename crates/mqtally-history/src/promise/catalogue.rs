//! The entries, in the order of the report.

use super::Promise;
use crate::report::Severity;

catalogue! {
    D1, S1, "QoS 1: no loss",
    ["3.1.1:MQTT-4.3.2-2", "3.1.1:MQTT-4.5.0-1", "3.1.1:MQTT-3.1.2-5", "3.1.1:MQTT-4.4.0-1",
     "5.0:MQTT-4.3.2-4", "5.0:MQTT-4.5.0-1", "5.0:MQTT-3.1.2-23", "5.0:MQTT-4.4.0-1"],
    tested by "a message with its final acknowledgement, a subscription acknowledged before the message was sent, and a sentinel, or another message, of the same stream behind it",
    lifted when "the session ended, expired or was discarded; the subscription was given up before the final acknowledgement; the message expired or is too large for the client; the subscription is shared or No Local; a queue of the broker was full, which shows in the same number of messages kept at one end of two times away; the broker failed in a way that its profile does not cover",
    exercise "every workload at QoS 1; cut links and restarts make it hard";

    D2, S1, "QoS 2: no loss",
    ["3.1.1:MQTT-4.3.3-2", "3.1.1:MQTT-4.5.0-1", "3.1.1:MQTT-3.1.2-5", "3.1.1:MQTT-4.4.0-1",
     "5.0:MQTT-4.3.3-8", "5.0:MQTT-4.5.0-1", "5.0:MQTT-3.1.2-23", "5.0:MQTT-4.4.0-1"],
    tested by "the same as D1 where both publication and subscription have QoS 2",
    lifted when "the same as D1; a message without PUBCOMP may or may not arrive",
    exercise "every workload at QoS 2; cut links and restarts make it hard";

    D3, S1, "QoS 2: exactly once",
    ["3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.3.3-2", "5.0:MQTT-4.3.3-6", "5.0:MQTT-4.3.3-10", "5.0:MQTT-4.3.3-12"],
    tested by "each message published and delivered at QoS 2: a receiver that follows the protocol accepts it once",
    lifted when "the session was lost in between, the message was submitted anew, filters overlap or are shared, or the broker failed in a way that its profile does not cover",
    exercise "cut either link within the handshake; restart the broker";

    D4, S2, "QoS 1: no second copy without a cause",
    ["5.0:MQTT-4.4.0-1"],
    tested by "each message delivered at QoS 1: a second copy needs a reconnect, a repeated publication or an overlapping filter",
    lifted when "the subscriber reconnected or the publisher sent again; in 3.1.1, and in 5.0 with another packet id, it is odd and no violation",
    exercise "any workload at QoS 1 without faults";

    D5, S1, "QoS 0: at most once",
    ["3.1.1:MQTT-4.3.1-1", "5.0:MQTT-4.3.1-1"],
    tested by "each message published at QoS 0 or 2 and delivered at QoS 0: no more copies than matching filters",
    lifted when "the message was published at QoS 1, or submitted more than once, or the subscription is shared",
    exercise "any workload with a subscription granted QoS 0";

    D6, S1, "Nothing arrives that nobody sent",
    ["3.1.1:MQTT-3.3.2-3", "5.0:MQTT-3.3.2-3"],
    tested by "each delivery: its message was sent in this run",
    lifted when "it is retained, a will, left over from another run, or of a topic that begins with `$`",
    exercise "any workload";

    D7, S3, "What was refused is not delivered",
    ["5.0:MQTT-4.4.0-2", "5.0:MQTT-4.3.3-9"],
    tested by "a message whose PUBACK or PUBREC had a reason of 0x80 or more",
    lifted when "it was sent again; the standard forbids to send it again and does not forbid to deliver it, so this is a warning",
    exercise "5.0: publish where the broker refuses, for want of a right or over a quota";

    D8, S1, "Payload and properties arrive unaltered",
    ["5.0:MQTT-3.3.2-4", "5.0:MQTT-3.3.2-15", "5.0:MQTT-3.3.2-16", "5.0:MQTT-3.3.2-17", "5.0:MQTT-3.3.2-18", "5.0:MQTT-3.3.2-20"],
    tested by "each delivery: the payload's checksum and, in 5.0, payload format, content type, response topic, correlation data and user properties in order",
    lifted when "message expiry, topic alias and subscription identifiers may change; a 3.1.1 subscriber receives no properties",
    exercise "any workload";

    D9, S1, "Only topics that were asked for",
    ["3.1.1:MQTT-3.3.2-3", "5.0:MQTT-3.3.2-3", "3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1", "3.1.1:MQTT-4.7.3-4", "5.0:MQTT-4.7.3-4"],
    tested by "each delivery: a filter of the session matches its topic",
    lifted when "the filter is being subscribed or unsubscribed, or the session is in doubt",
    exercise "any workload; wildcards and topics with a common beginning make it hard";

    D10, S2, "Nothing new after UNSUBACK",
    ["3.1.1:MQTT-3.10.4-2", "5.0:MQTT-3.10.4-2"],
    tested by "a message first sent after UNSUBACK was received, to a filter that was given up",
    lifted when "another filter matches; messages sent before UNSUBACK may still come",
    exercise "unsubscribe while a publisher goes on";

    D11, S2, "A clean start begins with nothing",
    ["3.1.1:MQTT-3.1.2-6", "5.0:MQTT-3.1.2-4"],
    tested by "a clean start of a client that had subscriptions: no old message and no old filter comes back",
    lifted when "the message is retained",
    exercise "connect with clean start where a session exists, and publish";

    D12, S2, "A QoS 2 message stays with the member that it was sent to",
    ["5.0:MQTT-4.8.2-4", "5.0:MQTT-4.8.2-5"],
    tested by "a QoS 2 message that was sent to a member of a shared subscription whose connection was cut before it was finished",
    lifted when "the message was submitted anew",
    exercise "5.0: cut the link of one member of a shared subscription at QoS 2 before it acknowledges";

    O1, S1, "First copies arrive in order",
    ["3.1.1:MQTT-4.6.0-5", "3.1.1:MQTT-4.6.0-6", "5.0:MQTT-4.6.0-5", "5.0:MQTT-4.6.0-6"],
    tested by "two messages of one publisher, topic and QoS that reached the broker in a known order, at one session",
    lifted when "publisher, topic or QoS differ; one is retained, was submitted anew, or came through a shared or overlapping subscription; later copies of a duplicate may come in any place",
    exercise "any workload with more than one message in flight; cut links and restarts make it hard";

    O2, S2, "What is sent again comes in its old order",
    ["3.1.1:MQTT-4.6.0-1", "3.1.1:MQTT-4.6.0-6", "5.0:MQTT-4.6.0-5"],
    tested by "two or more unacknowledged messages that are sent again after a reconnect",
    lifted when "topics or QoS differ (in 3.1.1 that is a warning)",
    exercise "cut the subscriber's link while several messages are in flight";

    O3, S3, "Last copies are in order",
    [],
    tested by "a QoS 1 message that came more than once: its last copy stands before that of each later message of its stream",
    lifted when "the standard says so in a comment only, so this is a warning; the subscriber acknowledged out of order, the publisher sent again, or the session was lost",
    exercise "cut the subscriber's link while several QoS 1 messages are in flight";

    O4, S3, "One at a time means no step back",
    [],
    tested by "5.0: each copy at a session with receive maximum 1, of messages that were published one at a time",
    lifted when "the standard says so in a comment only, so this is a warning",
    exercise "5.0: subscribe with receive maximum 1, publish one at a time, cut the subscriber's link";

    O5, S2, "The client under test acknowledges in order",
    ["3.1.1:MQTT-4.6.0-2", "3.1.1:MQTT-4.6.0-3", "3.1.1:MQTT-4.6.0-4", "5.0:MQTT-4.6.0-2", "5.0:MQTT-4.6.0-3", "5.0:MQTT-4.6.0-4"],
    tested by "each PUBACK, PUBREC and PUBREL of a client under test",
    lifted when "never; it is the client that is judged",
    exercise "a subject, and several messages in flight";

    R1, S2, "An unacknowledged PUBLISH is sent again",
    ["3.1.1:MQTT-4.4.0-1", "5.0:MQTT-4.4.0-1"],
    tested by "a resumed session with a received and not yet acknowledged PUBLISH",
    lifted when "an acknowledgement was on its way; a QoS 1 message expired; the broker failed in a way that its profile does not cover",
    exercise "cut the subscriber's link before it acknowledges";

    R2, S2, "An unanswered PUBREL is sent again",
    ["3.1.1:MQTT-4.4.0-1", "5.0:MQTT-4.4.0-1"],
    tested by "a resumed session with a received and not yet answered PUBREL",
    lifted when "a PUBCOMP was on its way; the broker failed in a way that its profile does not cover",
    exercise "cut the subscriber's link between PUBREL and PUBCOMP";

    R3, S2, "No PUBLISH again after its PUBREL",
    ["3.1.1:MQTT-4.3.3-1", "5.0:MQTT-4.3.3-6"],
    tested by "a QoS 2 exchange that had reached PUBREL when its connection ended, and is taken up again",
    lifted when "the packet id serves another message after PUBCOMP",
    exercise "cut the subscriber's link around PUBREL";

    R4, S2, "A redelivery keeps its packet id",
    ["3.1.1:MQTT-2.3.1-3", "3.1.1:MQTT-2.3.1-4", "3.1.1:MQTT-4.4.0-1", "5.0:MQTT-4.4.0-1"],
    tested by "a resumed session that receives an unacknowledged message again",
    lifted when "filters overlap, the publisher sent the message again, or the broker failed in a way that its profile does not cover",
    exercise "cut the subscriber's link before it acknowledges";

    R5, S3, "A redelivery carries DUP=1",
    ["3.1.1:MQTT-3.3.1-1", "5.0:MQTT-3.3.1-1"],
    tested by "a PUBLISH that comes a second time with its packet id, before it was acknowledged",
    lifted when "an acknowledgement was on its way",
    exercise "cut the subscriber's link before it acknowledges";

    R6, S3, "DUP is the hop's own",
    ["3.1.1:MQTT-3.3.1-3", "5.0:MQTT-3.3.1-3", "3.1.1:MQTT-3.3.1-2", "5.0:MQTT-3.3.1-2"],
    tested by "each first copy to a subscriber that was connected since before the message was sent, and each PUBLISH of QoS 0",
    lifted when "the subscriber reconnected since, so that a copy may have died on the way",
    exercise "cut the publisher's link, so that it sends with DUP=1";

    R7, S2, "A fresh PUBLISH has a free packet id",
    ["3.1.1:MQTT-2.3.1-2", "3.1.1:MQTT-2.3.1-4", "3.1.1:MQTT-2.3.1-1", "3.1.1:MQTT-4.3.2-1", "3.1.1:MQTT-4.3.3-1", "5.0:MQTT-2.2.1-4"],
    tested by "each PUBLISH of QoS 1 or 2: its id is not in use for another message",
    lifted when "an acknowledgement of the other message was on its way",
    exercise "many messages in flight, slow acknowledgements";

    R8, S2, "A repeated PUBLISH is answered with PUBREC",
    ["3.1.1:MQTT-4.3.3-2", "5.0:MQTT-4.3.3-10"],
    tested by "each QoS 2 PUBLISH that a publisher sends again before its PUBREL",
    lifted when "the connection was cut; four seconds are allowed, without a fault",
    exercise "cut the publisher's link between PUBLISH and PUBREC, and after PUBREC was lost";

    R9, S2, "PUBREL is always answered",
    ["3.1.1:MQTT-4.3.3-2", "5.0:MQTT-4.3.3-11"],
    tested by "each PUBREL that a publisher sends: PUBCOMP comes, also for an id that the broker does not know",
    lifted when "the connection was cut; four seconds are allowed, without a fault",
    exercise "cut the publisher's link between PUBREL and PUBCOMP";

    R10, S2, "The right acknowledgement, for the right packet",
    ["3.1.1:MQTT-2.3.1-6", "3.1.1:MQTT-2.3.1-7", "3.1.1:MQTT-3.3.4-1", "3.1.1:MQTT-4.3.3-1",
     "5.0:MQTT-2.2.1-5", "5.0:MQTT-2.2.1-6", "5.0:MQTT-3.3.4-1", "5.0:MQTT-4.3.3-4"],
    tested by "each acknowledgement that a client receives, and each PUBREL that its PUBREC asks for",
    lifted when "never; a PUBREL may come late, and is missing only when that of the sentinel behind it, or a later one, has come",
    exercise "any workload at QoS 1 or 2";

    R11, S2, "Nothing is sent again within a connection",
    ["5.0:MQTT-4.4.0-1"],
    tested by "each delivery that waited for more than a second for its acknowledgement",
    lifted when "3.1.1 does not forbid it, so there it is a warning",
    exercise "acknowledge some deliveries after two seconds or more";

    R12, S2, "The client under test resumes as it must",
    ["3.1.1:MQTT-4.4.0-1", "3.1.1:MQTT-4.6.0-1", "3.1.1:MQTT-4.3.3-1", "5.0:MQTT-4.4.0-1", "5.0:MQTT-4.6.0-1", "5.0:MQTT-4.3.3-6"],
    tested by "each PUBLISH and PUBREL that a client under test sends again: with its packet id, with DUP, in order, not after PUBREL; and five seconds of a resumed session in which it owed one",
    lifted when "an acknowledgement was on its way to the client, and nothing that it sent proves that it had read it; it is the client that is judged",
    exercise "a publishing subject at QoS 1 and 2, and cuts of its link in every phase";

    S1, S2, "A clean start has no session present",
    ["3.1.1:MQTT-3.2.2-1", "5.0:MQTT-3.2.2-2"],
    tested by "each accepted clean start",
    lifted when "never",
    exercise "connect with clean start, best where a session exists";

    S2, S2, "Session present tells the truth",
    ["3.1.1:MQTT-3.2.2-2", "3.1.1:MQTT-3.2.2-3", "5.0:MQTT-3.2.2-3"],
    tested by "each accepted connection without clean start where the history tells whether the broker has the session",
    lifted when "the expiry interval is about over, another connection of the client is being opened, or the broker failed in a way that its profile does not cover",
    exercise "reconnect a persistent session";

    S3, S3, "A refusal has no session present",
    ["3.1.1:MQTT-3.2.2-4", "3.1.1:MQTT-3.2.2-5", "5.0:MQTT-3.2.2-6", "5.0:MQTT-3.2.2-7"],
    tested by "each CONNACK that refuses: session present is 0 and nothing follows",
    lifted when "never",
    exercise "connect with a wrong password";

    S4, S2, "CONNACK comes first, and once",
    ["3.1.1:MQTT-3.1.0-2", "3.1.1:MQTT-3.2.0-1", "5.0:MQTT-3.1.0-2", "5.0:MQTT-3.2.0-1", "5.0:MQTT-3.2.0-2"],
    tested by "each connection on which the broker sends anything",
    lifted when "AUTH may come before",
    exercise "any workload; reconnects with messages waiting make it hard";

    S5, S2, "A resumed session has its subscriptions",
    ["3.1.1:MQTT-3.1.2-4", "3.1.1:MQTT-3.1.2-5", "5.0:MQTT-3.1.2-5"],
    tested by "a session that is said to be present and a message sent to one of its filters afterwards",
    lifted when "the client subscribed again; a volatile broker need not keep the session, but must not say that it did",
    exercise "reconnect a persistent session, restart the broker, and probe each filter";

    S6, S2, "Messages wait for a session that is offline",
    ["3.1.1:MQTT-3.1.2-5", "5.0:MQTT-4.5.0-1"],
    tested by "the obligations of D1 and D2 whose message was sent while the subscriber was offline",
    lifted when "QoS 0 need not be kept; else the same as D1",
    exercise "publish while a persistent subscriber is away";

    S7, S2, "A session lives until it expires",
    ["5.0:MQTT-3.1.2-23"],
    tested by "a return well after the connection ended and more than a second before the expiry interval is over",
    lifted when "the broker set another interval in CONNACK",
    exercise "5.0: return within the expiry interval";

    S8, S3, "A session does not outlive its expiry",
    ["5.0:MQTT-4.1.0-2"],
    tested by "a return more than two seconds after the expiry interval is over",
    lifted when "brokers clean up lazily, so this is a warning",
    exercise "5.0: return after the expiry interval";

    S9, S2, "A takeover closes the old connection",
    ["3.1.1:MQTT-3.1.4-2", "5.0:MQTT-3.1.4-3"],
    tested by "a second accepted connection of a client while its first is open",
    lifted when "never; five seconds are allowed",
    exercise "connect twice with one client id";

    S10, S2, "A takeover keeps the session",
    ["3.1.1:MQTT-3.1.2-4", "3.1.1:MQTT-4.4.0-1", "5.0:MQTT-3.1.2-5", "5.0:MQTT-4.4.0-1"],
    tested by "a second connection without clean start while the first is open: the session is present, and unfinished deliveries go on",
    lifted when "the session has no length, or the broker failed",
    exercise "connect twice with one client id while deliveries are unfinished";

    S11, S2, "DISCONNECT can set another expiry",
    [],
    tested by "5.0: a return behind a DISCONNECT with a session expiry interval",
    lifted when "the DISCONNECT may not have been read; a session that is found after its interval is a warning, unless the interval was 0",
    exercise "5.0: disconnect with an expiry of 0, and with a longer one than CONNECT had, and come back";

    S12, S2, "The client under test discards its session when the broker has none",
    ["5.0:MQTT-3.2.2-5"],
    tested by "5.0: a client under test with unfinished messages that is told session present 0",
    lifted when "3.1.1 does not say it; a message may be submitted anew; it is the client that is judged",
    exercise "5.0: a publishing subject, a cut, and a broker that forgot its session";

    S13, S2, "A clean session ends with its connection",
    ["3.1.1:MQTT-3.1.2-6"],
    tested by "3.1.1: a persistent connection after a clean one",
    lifted when "the broker failed in between",
    exercise "3.1.1: connect with Clean Session 1, disconnect, connect with 0";

    S14, S3, "A silent client is disconnected",
    ["3.1.1:MQTT-3.1.2-24", "5.0:MQTT-3.1.2-22"],
    tested by "a client with a keep-alive that sends nothing for longer than one and a half of it",
    lifted when "a fault struck meanwhile; two seconds or a quarter are allowed on top, and it is a warning",
    exercise "connect with a keep-alive of 2 s, send nothing, and wait for the end";

    Q1, S2, "Delivered at the lower of published and granted QoS",
    ["3.1.1:MQTT-3.8.4-6", "5.0:MQTT-3.8.4-8"],
    tested by "each delivery through a filter whose granted QoS is known",
    lifted when "a filter is subscribed again: the old and the new QoS are both right until then",
    exercise "any workload; subscriptions at different QoS make it hard";

    Q2, S2, "Overlapping filters deliver at the highest QoS",
    ["3.1.1:MQTT-3.3.5-1", "5.0:MQTT-3.3.4-2"],
    tested by "a message owed through two or more filters with settled QoS, and the sentinel behind it",
    lifted when "one copy or one a filter are both right",
    exercise "subscribe `a/+` and `a/b` at different QoS";

    Q3, S2, "SUBACK answers each filter",
    ["3.1.1:MQTT-3.8.4-1", "3.1.1:MQTT-3.8.4-2", "3.1.1:MQTT-3.8.4-5", "3.1.1:MQTT-3.9.3-1", "5.0:MQTT-3.8.4-1", "5.0:MQTT-3.8.4-2", "5.0:MQTT-3.8.4-6", "5.0:MQTT-3.8.4-7", "5.0:MQTT-3.9.3-1"],
    tested by "each SUBACK: the right id, one code a filter, none above what was asked for",
    lifted when "never",
    exercise "any workload; several filters in one SUBSCRIBE make it hard";

    Q4, S2, "Subscribing again loses nothing",
    ["3.1.1:MQTT-3.8.4-3", "5.0:MQTT-3.8.4-3", "5.0:MQTT-3.8.4-4"],
    tested by "the obligations of D1 and D2 whose message was under way while one of its filters was subscribed again",
    lifted when "the same as D1",
    exercise "subscribe again to the same filter while a publisher goes on";

    Q5, S2, "UNSUBSCRIBE lets exchanges finish",
    ["3.1.1:MQTT-3.10.4-3", "5.0:MQTT-3.10.4-3"],
    tested by "a QoS 2 exchange before PUBREL when its filter is unsubscribed",
    lifted when "the connection was cut, or the message was refused; four seconds are allowed, without a fault",
    exercise "unsubscribe between PUBLISH and PUBREC, go on, and ping";

    Q6, S3, "A maximum QoS is announced, and subscriptions above it are accepted",
    ["5.0:MQTT-3.2.2-9", "5.0:MQTT-3.2.2-10"],
    tested by "5.0: a SUBSCRIBE above the maximum QoS of CONNACK; a refusal because of the QoS",
    lifted when "it was refused for another reason; 3.1.1 has no way to announce it",
    exercise "5.0: subscribe at QoS 2 where the broker announces less";

    F1, S2, "Receive maximum is respected",
    ["5.0:MQTT-3.3.4-9", "5.0:MQTT-4.9.0-1", "5.0:MQTT-4.9.0-2"],
    tested by "a connection whose receive maximum was reached",
    lifted when "none was set: then it is 65,535",
    exercise "5.0: subscribe with a small receive maximum and acknowledge slowly";

    F2, S2, "Quota returns at PUBCOMP, not at PUBREC",
    ["5.0:MQTT-3.3.4-9", "5.0:MQTT-4.9.0-1", "5.0:MQTT-4.9.0-2"],
    tested by "a connection whose receive maximum was reached with a QoS 2 exchange between PUBREC and PUBCOMP",
    lifted when "none was set",
    exercise "5.0: subscribe at QoS 2 with a small receive maximum and delay PUBCOMP";

    F3, S2, "Only PUBLISH waits for quota",
    ["5.0:MQTT-3.3.4-10", "5.0:MQTT-4.9.0-3"],
    tested by "5.0: a PINGREQ, SUBSCRIBE or UNSUBSCRIBE that is sent while the receive maximum is reached, and answered before anything is acknowledged",
    lifted when "a fault struck meanwhile; five seconds are allowed",
    exercise "5.0: subscribe with a small receive maximum, let it fill, and ping before acknowledging";

    F4, S2, "Each connection has its whole quota",
    ["5.0:MQTT-4.9.0-1"],
    tested by "5.0: a connection with a receive maximum whose predecessor ended with unfinished deliveries, and that was filled up",
    lifted when "nothing more is owed; ten seconds are allowed, and nothing more may come",
    exercise "5.0: subscribe with a small receive maximum, let it fill, cut the link, come back, and let it fill again";

    F5, S4, "An acknowledgement makes room",
    ["5.0:MQTT-4.9.0-1", "5.0:MQTT-4.9.0-2"],
    tested by "5.0: a connection whose receive maximum was reached, an acknowledgement, and the next delivery",
    lifted when "nothing more is owed; ten seconds are allowed",
    exercise "5.0: subscribe with a small receive maximum, publish more than that, and acknowledge one at a time";

    F6, S2, "The client under test respects the server's receive maximum",
    ["5.0:MQTT-3.3.4-7"],
    tested by "5.0: a client under test that has as many unfinished messages as CONNACK allows",
    lifted when "none was set: then it is 65,535; it is the client that is judged",
    exercise "5.0: a publishing subject that is faster than its acknowledgements, and a broker with a small receive maximum";

    T1, S2, "A new subscription gets the retained message",
    ["3.1.1:MQTT-3.3.1-5", "3.1.1:MQTT-3.3.1-6", "5.0:MQTT-3.3.1-5", "5.0:MQTT-3.3.1-9"],
    tested by "a SUBSCRIBE that matches a topic whose last retained message was acknowledged before, at QoS 1 or 2; and that it is the last one",
    lifted when "the retained message has QoS 0 or may have expired, another is being published meanwhile (then each is right), the filter is shared, or the broker failed in a way that its profile does not cover; an absence is judged a second after the broker answered a PINGREQ or delivered a sentinel sent behind SUBACK, or five seconds after SUBACK",
    exercise "publish with RETAIN and wait for the acknowledgement, subscribe, ping, and stay for a second";

    T2, S3, "A retained message carries RETAIN=1",
    ["3.1.1:MQTT-3.3.1-8"],
    tested by "each retained message that a new subscription receives",
    lifted when "never",
    exercise "subscribe where a retained message is";

    T3, S3, "A live message carries RETAIN=0",
    ["3.1.1:MQTT-3.3.1-9", "5.0:MQTT-3.3.1-12", "5.0:MQTT-3.3.1-13"],
    tested by "a message published with RETAIN that reaches an established subscription",
    lifted when "the subscription retains as published: then RETAIN is as it was published",
    exercise "publish with RETAIN to a subscriber that is there";

    T4, S2, "An empty message clears the topic",
    ["3.1.1:MQTT-3.3.1-10", "3.1.1:MQTT-3.3.1-11", "5.0:MQTT-3.3.1-6", "5.0:MQTT-3.3.1-7"],
    tested by "a SUBSCRIBE that matches a topic whose last retained publication, acknowledged before, is empty",
    lifted when "another retained message is being published meanwhile",
    exercise "publish an empty message with RETAIN and QoS 1, subscribe, ping, and stay for a second";

    T5, S2, "A message without RETAIN leaves the retained one alone",
    ["3.1.1:MQTT-3.3.1-12", "5.0:MQTT-3.3.1-8"],
    tested by "a SUBSCRIBE that matches a topic to which a message without RETAIN was published behind the retained one",
    lifted when "the same as T1",
    exercise "publish with RETAIN, then without, both acknowledged, then subscribe";

    T6, S2, "Retained messages outlive their publisher's session",
    ["3.1.1:MQTT-3.1.2-7"],
    tested by "a SUBSCRIBE that matches a topic whose publisher's session ended since",
    lifted when "the same as T1",
    exercise "publish with RETAIN from a clean session, end it, then subscribe";

    T7, S2, "Retained messages come at the lower of published and granted QoS",
    ["3.1.1:MQTT-3.8.4-6", "5.0:MQTT-3.8.4-8"],
    tested by "each retained message that a subscription of known QoS receives",
    lifted when "never",
    exercise "subscribe at QoS 0, 1 and 2 where retained messages are";

    T8, S2, "Retain Handling is obeyed",
    ["5.0:MQTT-3.3.1-9", "5.0:MQTT-3.3.1-10", "5.0:MQTT-3.3.1-11", "5.0:MQTT-3.8.4-4"],
    tested by "5.0: a SUBSCRIBE with Retain Handling 1 or 2 that matches a retained message",
    lifted when "nobody knows whether the subscription exists; a retained message that comes because a session is resumed, or through a shared filter, is a warning",
    exercise "5.0: subscribe twice with Retain Handling 1, and once with 2, and ping behind each";

    T9, S2, "An expired retained message is not sent",
    ["5.0:MQTT-3.3.2-5"],
    tested by "a SUBSCRIBE more than a second after the expiry of the retained message",
    lifted when "the interval is about over",
    exercise "5.0: publish with RETAIN and an expiry of 1 s, wait for 3 s, subscribe, ping, and stay for a second";

    W1, S2, "A will is published when its connection ends without a goodbye",
    ["3.1.1:MQTT-3.1.2-8", "5.0:MQTT-3.1.2-8"],
    tested by "the end of an accepted connection with a will, without DISCONNECT or with a reason other than 0, and a witness that was subscribed before and stays",
    lifted when "the will or the subscription has QoS 0; the broker ended; nobody knows when the broker noticed; the session was resumed within the will delay; five seconds are allowed",
    exercise "a witness at QoS 1, and a client with a will at QoS 1 whose link is cut, that falls silent, or whose connection is taken over";

    W2, S2, "No will behind DISCONNECT",
    ["3.1.1:MQTT-3.1.2-10", "3.1.1:MQTT-3.14.4-3", "5.0:MQTT-3.14.4-3"],
    tested by "a DISCONNECT with reason 0 of a client with a will, and a witness that stays for more than a second",
    lifted when "the connection was reset or taken over, so that the broker may not have read the DISCONNECT; 5.0: the reason is not 0",
    exercise "a witness at QoS 1, and a client with a will that disconnects in order";

    W3, S2, "A will is published once",
    ["3.1.1:MQTT-3.1.2-10", "5.0:MQTT-3.1.2-10"],
    tested by "each will that arrives",
    lifted when "filters of the witness overlap; at QoS 1, the witness reconnected",
    exercise "the same as W1";

    W4, S2, "The will delay is kept",
    ["5.0:MQTT-3.1.2-8", "5.0:MQTT-3.1.3-9"],
    tested by "5.0: the end of a connection whose will has a delay; it must not come before, and not at all where the session is resumed before",
    lifted when "the session ends before; a second of tolerance is given",
    exercise "5.0: a will with a delay of 3 s: once leave it, once come back within a second; the witness stays for six seconds more";

    W5, S2, "A will is published as declared",
    ["3.1.1:MQTT-3.1.2-16", "3.1.1:MQTT-3.1.2-17", "5.0:MQTT-3.1.2-14", "5.0:MQTT-3.1.2-15"],
    tested by "each will that arrives: its QoS, and whether it is retained",
    lifted when "never",
    exercise "the same as W1, at each QoS, with RETAIN and without, and a subscription afterwards";

    W6, S2, "No will where none was declared",
    ["3.1.1:MQTT-3.1.2-12"],
    tested by "the end without a goodbye of a connection without a will, of a client that had declared one before, and a witness that stays for more than a second",
    lifted when "an older will may still be due",
    exercise "connect with a will and disconnect in order, connect without and cut the link";

    E1, S2, "What has expired is not delivered",
    ["5.0:MQTT-3.3.2-5"],
    tested by "a message with an expiry interval that was over for more than a second when its session came back, and that was sent while nobody was at the other end",
    lifted when "the broker may have begun to deliver it before; QoS 0",
    exercise "5.0: publish with an expiry of 1 s while a persistent subscriber is away, and come back after 3 s";

    E2, S3, "The expiry interval is counted down",
    ["5.0:MQTT-3.3.2-6"],
    tested by "the first copy of a message with an expiry interval that waited for two seconds or more for its session or its subscription",
    lifted when "never; a second of tolerance is given",
    exercise "5.0: publish with an expiry of 60 s while a persistent subscriber is away, and come back after 3 s";

    E3, S2, "The maximum packet size is respected",
    ["5.0:MQTT-3.1.2-24", "5.0:MQTT-3.1.2-25"],
    tested by "a message to a client that does not take packets of its size",
    lifted when "none was set",
    exercise "5.0: subscribe with a small maximum packet size, and publish more than that";

    V1, S2, "Subscription identifiers come along",
    ["5.0:MQTT-3.3.4-3", "5.0:MQTT-3.3.4-4", "5.0:MQTT-3.3.4-5"],
    tested by "each copy through filters with a subscription identifier; with several filters, all copies together once the part is drained",
    lifted when "the filter is being subscribed or unsubscribed; their order does not matter",
    exercise "5.0: subscribe with identifiers, also to overlapping filters";

    V2, S2, "No Local sends nothing back",
    ["5.0:MQTT-3.8.3-3"],
    tested by "a message that its publisher's own No Local filter matches",
    lifted when "another filter of the client matches as well",
    exercise "5.0: publish and subscribe with one client and No Local";

    V3, S2, "Topic aliases are the connection's own, and within its limit",
    ["5.0:MQTT-3.1.2-26", "5.0:MQTT-3.1.2-27", "5.0:MQTT-3.3.2-7", "5.0:MQTT-3.3.2-8", "5.0:MQTT-3.3.2-11"],
    tested by "each PUBLISH with a topic alias",
    lifted when "never",
    exercise "5.0: subscribe with a topic alias maximum, reconnect, and again without one";

    V4, S2, "A shared subscription gives each message to one member",
    ["5.0:MQTT-4.8.2-3", "5.0:MQTT-4.8.2-6"],
    tested by "each message that reaches a member of a group of two or more, whose only matching filter that is",
    lifted when "the first member's connection ended, so that a QoS 1 message may be moved; the publisher sent it again; an absence is judged only where each member stayed and received a later message",
    exercise "5.0: two clients with one shared filter, without faults";

    V5, S2, "A refused delivery is not sent again",
    ["5.0:MQTT-4.4.0-2"],
    tested by "5.0: a delivery that the subscriber refused with a reason of 0x80 or more, which the broker has read, and a resumption",
    lifted when "the refusal may not have been read",
    exercise "5.0: answer a PUBLISH with PUBACK 0x83, ping, reconnect";

    A1, S1, "The application's statistics are right to the message",
    [],
    tested by "each delivery that a subscribing application settled, and the counters it reported",
    lifted when "deliveries were settled after the last report",
    exercise "any workload with a subscribing application; redeliveries make it hard";

    A2, S1, "A new message is never taken for a duplicate",
    [],
    tested by "each delivery that a subscribing application settled as processed or as a duplicate",
    lifted when "the message was delivered again and an earlier copy was settled",
    exercise "redeliveries; a publisher that restarts with its counter at 1";

    A3, S1, "A program processes what it acknowledged",
    [],
    tested by "each message that a program under test reported, and each that it acknowledged before one that it reported",
    lifted when "nothing behind it was reported",
    exercise "a subscribing subject that is killed and started again";

    A4, S1, "A program says published only of what is acknowledged",
    [],
    tested by "each message that a program under test says it published",
    lifted when "QoS 0 has no acknowledgement; at QoS 2 PUBREC is enough",
    exercise "a publishing subject that reports what it published, and cuts of its link";

    A5, S2, "A program comes back to the session that it asked for",
    [],
    tested by "each client id of a program under test whose session outlives its connection, after its process ended: it comes back to it before it asks for a session under a new id, or some time later",
    lifted when "it asks for no such session; MQTT itself does not say it",
    exercise "a subject that is killed and started again";

    N1, S2, "What may be lost is heard all the same",
    [],
    tested by "each device of a stream that may lose messages and each subscriber: five or more were sent while the subscriber was connected",
    lifted when "never: it is what the application needs, whatever MQTT promises",
    exercise "a scenario with a stream that may lose messages";

    N2, S1, "What must arrive is acted on",
    [],
    tested by "each message that a device took on, and each application that subscribes to its stream",
    lifted when "never: neither a lost session nor an end of the broker excuses it; where the end of the stream did not come either, it is unknown",
    exercise "a scenario with a stream that must arrive; cut links, absences and restarts make it hard";

    N3, S1, "What must not happen twice is acted on once",
    [],
    tested by "each message that an application acted on, and where what the messages move stands at the end",
    lifted when "never: it is what the application needs, whatever MQTT promises",
    exercise "a scenario with a stream that must not happen twice; cut either link, restart the broker";

    N4, S1, "Whoever looks sees the newest",
    [],
    tested by "each device of a stream of which only the newest message counts: what each subscriber saw last, and what one sees that comes when all is sent",
    lifted when "never: it is what the application needs, whatever MQTT promises",
    exercise "a scenario with retained states";

    L1, S4, "Streams drain",
    [],
    tested by "each stream and session that owes a sentinel at the end of a part of the run",
    lifted when "the session has ended",
    exercise "any workload: faults are healed and the run waits for its sentinels";

    L2, S4, "Every client can get on",
    [],
    tested by "each reconnect that is answered",
    lifted when "a fault, a takeover or a stated reason explains the end of a connection; five fruitless connections in a row are too many",
    exercise "any fault, and reconnects behind it";

    L3, S4, "PINGREQ is answered",
    ["3.1.1:MQTT-3.12.4-1", "5.0:MQTT-3.12.4-1"],
    tested by "each PINGREQ",
    lifted when "a fault struck meanwhile; five seconds are allowed",
    exercise "any client that pings";

    L4, S4, "What is owed comes while there is room",
    [],
    tested by "each message owed to a session",
    lifted when "a fault struck meanwhile; ten seconds without any delivery are allowed",
    exercise "any workload that waits for its sentinels for ten seconds or more";

    L5, S4, "The broker stays alive",
    [],
    tested by "each part of a run with a broker that was started for it",
    lifted when "it was asked to stop, or killed",
    exercise "any workload";

    P1, S3, "Packets are well-formed",
    [],
    tested by "each packet that the broker sends",
    lifted when "never; what can be understood is judged further, so this is a warning",
    exercise "any workload";
}
