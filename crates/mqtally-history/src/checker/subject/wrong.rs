//! What a client under test can do wrong on the wire: what it did, what MQTT wants, and the change that mends it.

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Wrong {
    AgainAfterPubrel,
    AgainAfterAcknowledgement,
    TwiceOnOneConnection,
    AgainWithoutDup,
    AgainOutOfOrder,
    IdInUse,
    IdOfAnotherLife,
    AgainWithAnotherId,
    FirstTimeWithDup,
    PubrelWithoutPubrec,
    AcknowledgedNothing,
    NeverPublishAgain,
    NeverPubrelAgain,
    NeverPubcomp,
    OldSession,
    OutOfOrder,
    AboveReceiveMaximum,
    AnotherClientId,
}

impl Wrong {
    /// What it did, behind the client's name.
    fn did(self) -> &'static str {
        match self {
            Self::AgainAfterPubrel => "sent PUBLISH again after its PUBREL",
            Self::AgainAfterAcknowledgement => "sent PUBLISH again after it had read its acknowledgement",
            Self::TwiceOnOneConnection => "sent PUBLISH twice on one connection",
            Self::AgainWithoutDup => "sent PUBLISH again without DUP",
            Self::AgainOutOfOrder => "sent again a message after one that it had sent later",
            Self::IdInUse => "used a packet id that was in use for another message",
            Self::IdOfAnotherLife => {
                "came back to its session after its process had ended, and used a packet id that still stands for \
                 another message in it"
            }
            Self::AgainWithAnotherId => "sent an unacknowledged message again with another packet id",
            Self::FirstTimeWithDup => "sent a message for the first time with DUP",
            Self::PubrelWithoutPubrec => "sent PUBREL and had no PUBREC",
            Self::AcknowledgedNothing => "acknowledged what it had not received",
            Self::NeverPublishAgain => "resumed its session and never sent PUBLISH again",
            Self::NeverPubrelAgain => "resumed its session and never sent PUBREL again",
            Self::NeverPubcomp => "never answered PUBREL",
            Self::OldSession => "went on with its old session, though session present was 0",
            Self::OutOfOrder => "answered out of order",
            Self::AboveReceiveMaximum => "has more unfinished messages than the broker takes",
            Self::AnotherClientId => {
                "asked for a session that outlives its connection and came back with another client id"
            }
        }
    }

    /// What MQTT wants.
    fn wanted(self) -> &'static str {
        match self {
            Self::AgainAfterPubrel => {
                "behind PUBREL only PUBREL may be repeated; the broker takes the PUBLISH for a new message and \
                 delivers it twice"
            }
            Self::AgainAfterAcknowledgement => "what is acknowledged is over",
            Self::TwiceOnOneConnection => {
                "a packet is sent again after a reconnect and at no other time (5.0; 3.1.1 permits it)"
            }
            Self::AgainWithoutDup => "DUP is 1 on whatever is sent again",
            Self::AgainOutOfOrder => "what is sent again goes out in the order in which it was sent first",
            Self::IdInUse | Self::IdOfAnotherLife => {
                "a new PUBLISH has an unused packet id; at QoS 2 the broker takes it for the old message and drops it"
            }
            Self::AgainWithAnotherId => {
                "an unacknowledged PUBLISH is sent again with its own packet id; with another one it is a second message"
            }
            Self::FirstTimeWithDup => "DUP is 0 on the first attempt",
            Self::PubrelWithoutPubrec => "PUBREL answers PUBREC",
            Self::AcknowledgedNothing => "an acknowledgement has the packet id of what it answers",
            Self::NeverPublishAgain => "on a resumed session every unacknowledged PUBLISH is sent again",
            Self::NeverPubrelAgain => "on a resumed session every PUBREL without PUBCOMP is sent again",
            Self::NeverPubcomp => "PUBREL is answered with PUBCOMP, also when its packet id is not known",
            Self::OldSession => "session present 0 means that both sides begin with nothing",
            Self::OutOfOrder => {
                "PUBACK and PUBREC go out in the order of the PUBLISHes that they answer, PUBREL in that of the PUBRECs"
            }
            Self::AboveReceiveMaximum => {
                "no more are unfinished at a time than the receive maximum of CONNACK"
            }
            Self::AnotherClientId => {
                "a session belongs to its client id; what the broker keeps in the old one nobody will ever read"
            }
        }
    }

    /// The change that mends it.
    fn mend(self) -> &'static str {
        match self {
            Self::AgainAfterPubrel => {
                "note in the in-flight entry that PUBREC came, and repeat PUBREL from then on"
            }
            Self::AgainAfterAcknowledgement => {
                "take the entry out of the in-flight table when PUBACK or PUBREC is read, before the next reconnect"
            }
            Self::TwiceOnOneConnection => "take the retry timer out; TCP repeats what is lost",
            Self::AgainWithoutDup => "set the DUP bit when a stored PUBLISH is written again",
            Self::AgainOutOfOrder => {
                "keep the in-flight table in the order of sending, not of packet ids or of a hash"
            }
            Self::IdInUse => "look for a free packet id, also behind the wrap at 65,535",
            Self::IdOfAnotherLife => {
                "keep the in-flight table on disk and go on with it, or begin with a clean start after a crash"
            }
            Self::AgainWithAnotherId => "store the packet id with the message, and use it again",
            Self::FirstTimeWithDup => "set DUP only when an entry of the in-flight table is sent again",
            Self::PubrelWithoutPubrec => "send PUBREL only when PUBREC is read",
            Self::AcknowledgedNothing => "take the packet id for an acknowledgement from the packet itself",
            Self::NeverPublishAgain | Self::NeverPubrelAgain => {
                "when CONNACK says session present 1, go through the in-flight table before anything new is sent"
            }
            Self::NeverPubcomp => "answer every PUBREL at once; it needs no state",
            Self::OldSession => {
                "when CONNACK says session present 0, drop packet ids and PUBRELs, and publish again as new what is \
                 not acknowledged"
            }
            Self::OutOfOrder => {
                "put acknowledgements of handlers that end in another order into a queue, and send them from its head"
            }
            Self::AboveReceiveMaximum => {
                "read the receive maximum of each CONNACK and hold back PUBLISHes, those that are sent again too"
            }
            Self::AnotherClientId => "keep one client id for good, in the configuration or beside the data",
        }
    }

    /// The whole, about a packet.
    pub(super) fn sentence(self, client: &str, packet: &str) -> String {
        format!(
            "the client under test, {client}, {} ({packet}). MQTT: {}. To mend it: {}",
            self.did(),
            self.wanted(),
            self.mend()
        )
    }
}
