//! Every way in which the proxy breaks a promise.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Nothing: the control.
    None,
    /// Acknowledges a QoS 1 delivery in the subscriber's stead and drops it.
    DropQos1,
    /// The same at QoS 2, with the whole handshake.
    DropQos2,
    /// Delivers a QoS 2 message again as a new one.
    DeliverQos2Twice,
    /// Lets a returning client begin a new session.
    ForgetSession,
    /// Says that there was no session where one was resumed.
    DenySession,
    /// Says that a session was resumed where there was none.
    InventSession,
    /// Takes DUP off a redelivery.
    ClearDup,
    /// Redelivers under another packet id.
    NewPacketId,
    /// Answers a PUBREL that is sent again in the subscriber's stead.
    ForgetPubrel,
    /// Swaps two neighbours of one stream.
    Swap,
    /// Delivers at a higher QoS than granted.
    UpgradeQos,
    /// Changes the last byte of a payload.
    CorruptPayload,
    /// Swaps two user properties.
    SwapUserProperties,
    /// Delivers a message that nobody sent.
    Phantom,
    /// Delivers a message on a topic that was not asked for.
    WrongTopic,
    /// Acknowledges a retained message in a new subscriber's stead and drops it.
    DropRetained,
    /// Takes RETAIN off what is sent to a new subscriber.
    ClearRetain,
    /// Puts RETAIN on what is sent to an established subscriber.
    SetRetain,
    /// Acknowledges the empty message that clears a topic and drops it.
    KeepRetained,
    /// Sends retained messages whatever Retain Handling says.
    IgnoreRetainHandling,
    /// Acknowledges a will in the witness's stead and drops it.
    DropWill,
    /// Takes DISCONNECT for a lost connection.
    WillOnDisconnect,
    /// Publishes a will at once.
    IgnoreWillDelay,
    /// Keeps to the session expiry of CONNECT.
    IgnoreOverride,
    /// Keeps a message longer than its interval.
    IgnoreExpiry,
    /// Sends an expiry interval as it was published.
    RestoreExpiry,
    /// Sends packets of any size.
    IgnorePacketSize,
    /// Sends no subscription identifiers.
    StripIdentifiers,
    /// Behind a link that ended inside a PUBREC, loses one QoS 1 message of the same subscriber.
    LoseBehindTornPubrec,
    /// Answers no PINGREQ while no place is free.
    HoldPong,
    /// Gives a returning client no more places than it had left.
    KeepQuota,
    /// Uses no place that is given back.
    LoseQuota,
    /// Loses a message while its filter is subscribed again.
    LoseReplaced,
    /// Ends the exchanges of a filter that is given up.
    EndExchange,
    /// Answers no PUBLISH that is sent again.
    IgnoreRepeated,
    /// Answers no PUBREL of an id that it does not know.
    IgnoreRelease,
    /// Closes the connection over one.
    CloseOnRelease,
    /// Sends a PUBLISH again at once.
    SendAgain,
    /// Sends what was refused again.
    RepeatRefused,
    /// Gives a message to two members of a group.
    TwoMembers,
    /// Moves a QoS 2 message to another member.
    MoveQos2,
    /// Begins a new session at a takeover.
    ForgetTakeover,
    /// Begins a new session for a client whose process was killed.
    ForgetKilled,
    /// Leaves a connection open that was taken over.
    KeepTakenOver,
    /// Leaves the connection of a silent client open.
    KeepSilent,
    /// Forgets the filters of a session that it resumes.
    ForgetFilters,
    /// Sends a client back what it published, though it asked for No Local.
    Echo,
    /// Says that a filter is given up, and keeps it.
    KeepFilter,
    /// Sends more than the client's receive maximum.
    IgnoreReceiveMaximum,
    /// Acknowledges an id that nobody used.
    WrongPuback,
    /// Puts the codes of SUBACK into the wrong order.
    SwapCodes,
    /// Uses a topic alias that the client does not take.
    UseAlias,
    /// Hands the publisher's DUP on.
    HandOnDup,
    /// Puts DUP on a message of QoS 0.
    MarkQos0,
    /// Delivers a QoS 1 message again as a new one.
    DeliverQos1Twice,
    /// Sends what is unacknowledged again in reverse.
    SendAgainReversed,
    /// Takes PUBREC for the end of an exchange.
    FreeAtPubrec,
    /// Acknowledges what it has in memory only.
    AcknowledgeEarly,
    /// Ends a session after half of its time.
    ExpireEarly,
    /// Ends no session.
    NeverExpire,
    /// Keeps the first retained message of a topic.
    KeepFirstRetained,
    /// Keeps filters over a clean start.
    KeepFiltersAtCleanStart,
    /// Forgets the filters of every session when it is started again.
    ForgetFiltersAtRestart,
    /// Takes `+` for a level that begins with `$`, too.
    MatchDollar,
    /// Takes `#` for what it says of itself, too.
    MatchSys,
    /// Answers PUBREC with the PUBREL of another exchange.
    WrongPubrel,
    /// Sends each PUBREL twice.
    PubrelTwice,
    /// Loses what comes for a filter that was given up and is asked for again.
    LoseAskedAgain,
    /// Gives up every filter that matches the one that is given up.
    GiveUpMatching,
    /// Takes `a/#` for something that does not match `a`.
    MissParent,
    /// Drops a message of a group.
    LoseShared,
    /// Drops a message long before its interval is over.
    ExpireMessageEarly,
    /// Sends nothing retained for Retain Handling 1.
    IgnoreSendIfNew,
    /// Forgets what a subscription asked for beside its QoS when its session is resumed.
    ForgetOptions,
    /// Lawful: sends one message at a time, whatever the client takes.
    WindowOfOne,
    /// Lawful: announces a keep-alive and a small receive maximum of its own, and says more than it has to.
    Announce,
}
