//! Scenario files, and what streams can need.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        words: &["scenario", "scenarios"],
        title: "devices, subscribers, faults and needs, in a file",
        text: "\
'mqtally test FILE.toml' plays it in compressed time, over both versions of MQTT, and judges the broker's promises and the needs of the application (N1 to N4). 'factory' and 'smart-home' come with the program. A whole one:
 name = \"pump\"
 duration = \"60s\"            # of the scenario; ms, s, m, h or d
 speed = 20                  # of its seconds in one of the run
 [broker]
 profile = \"durable\"         # what survives its end
 queue-max = 1000            # messages that it keeps for who is away
 [[streams]]
 name = \"alarm\"
 topic = \"pump/{device}/alarm\"
 devices = 5
 qos = 1
 every = \"3s\"                # also: count, from, retained, expiry
 payload = '{\"message_id\": {number}, \"turn\": 1}'
 step = \"turn\"               # a message moves something by as much
 needs = [\"must-arrive\"]
 [[subscribers]]
 name = \"control-room\"
 filters = [\"pump/+/alarm@1\"]
 session = \"persistent\"      # or clean
 expiry = \"1h\"
 dedup = true                # by message_id
 [[faults]]
 kind = \"cut\"                # leave, stall, kill-broker, restart-broker
 of = \"control-room\"         # or a stream: all its devices
 at = \"5s\"
 lasts = \"8s\"
 again-every = \"20s\"
Devices keep to their timetable whatever happens: above QoS 0 they keep what they cannot send, at QoS 0 it is lost. Latencies count from when a message was due. A rate that cannot be met is said. --faults none plays it without its faults; a broker given by URL is not struck, and that is said.
At the end everything is healed, late readers come for what only the newest counts of, and every stream is drained. scenarios/scenario.schema.json lets editors complete and check such files.",
    },
    Entry {
        words: &["needs", "need"],
        title: "what an application needs of a stream, whatever MQTT promises",
        text: "\
may-lose (N1), must-arrive (N2), must-not-happen-twice (N3), newest-only (N4): each can be explained. They are judged from the device that takes a message on to the application that acts on it. A need has no excuses: a message that an expired session lost is lost.",
    },
    Entry {
        words: &["may-lose"],
        title: "any message may be lost, not all of them (N1)",
        text: "Measurements that come again soon. QoS 0 is enough, and costs one packet.",
    },
    Entry {
        words: &["must-arrive"],
        title: "every message is acted on by every subscriber (N2)",
        text: "\
QoS 1 from end to end, a persistent session that lives longer than the longest absence, a queue with room, and a broker that survives its own end.",
    },
    Entry {
        words: &["must-not-happen-twice"],
        title: "no application acts on a message twice (N3)",
        text: "\
QoS 2 from end to end in a persistent session, or QoS 1 and an application that recognises what it has seen ('dedup'). With 'step' each message moves something, such as a valve, and where it stands at the end is the proof: it is the number of distinct messages.",
    },
    Entry {
        words: &["newest-only"],
        title: "whoever looks sees the newest message (N4)",
        text: "States: retained, so that who comes later need not wait for the next.",
    },
    Entry {
        words: &["advisor", "advice"],
        title: "needs that cannot be met, told before the run",
        text: "\
It reasons from what MQTT promises, not from what a broker happens to do: a QoS 0 message mostly arrives, and nobody owes it. Before the run each such need is told with the change to make; after the run the report says what really happened, and where a need was met all the same, that this was luck.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_harness::scenario::{Scenario, advice::advise};

    #[test]
    fn the_scenario_that_is_shown_can_be_played_and_its_needs_can_be_met() {
        let shown = ENTRIES[0].text.lines().filter(|line| line.starts_with(' '));
        let text: Vec<&str> = shown.collect();
        let scenario = Scenario::parse(&text.join("\n")).expect("a scenario");
        assert_eq!((scenario.messages(), advise(&scenario)), (100, Vec::new()));
    }
}
