//! Epochs: what lies behind two sentinels is judged and forgotten, and the report is the same.

use crate::support::*;

const EPOCH: u64 = 128;

/// Three epochs at one QoS, each ended by its sentinel; `change` may spoil what is received of a message.
fn epochs(qos: u8, change: impl Fn(u64, String) -> String) -> String {
    let mut history = joined(qos);
    for sequence in 0..3 * EPOCH {
        if sequence % EPOCH == EPOCH - 1 {
            history += &(sentinel(qos, sequence) + &received_sentinel(qos, sequence));
        } else {
            history += &(published(qos, sequence) + &change(sequence, received(qos, sequence)));
        }
    }
    history
}

fn whole(_: u64, received: String) -> String {
    received
}

#[test]
fn the_figures_are_those_of_the_whole_run() {
    for qos in [1, 2] {
        let report = report(&(epochs(qos, whole) + "end"));
        assert_eq!(off(&report), Vec::<String>::new(), "{:#?}", report.findings);
        let load = 3 * (EPOCH - 1);
        let stream = &report.streams[0];
        assert_eq!((stream.published, stream.acknowledged, stream.delivered), (load, load, load));
        assert_eq!((report.tally.published, report.tally.delivered, report.tally.lost), (load, load, 0));
        assert_eq!(obligations(&report, if qos == 1 { "D1" } else { "D2" }), 3 * EPOCH);
    }
}

#[test]
fn a_loss_in_an_epoch_that_is_over_is_found_whatever_happens_later() {
    let lossy = |sequence: u64, received: String| if sequence == 5 { String::new() } else { received };
    for end in ["end", "sub > CONNECT clean=1\nsub < CONNACK sp=0\nsub#1 | closed\nend", "broker killed\nend"]
    {
        check(&(epochs(1, lossy) + end), "D1");
    }
}

#[test]
fn a_qos_2_message_of_long_ago_that_comes_again_is_a_duplicate() {
    let again = "sub < PUBLISH qos=2 id=9 m=0/0/3\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\nend";
    check(&(epochs(2, whole) + again), "D3");
    let lost =
        "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 2 a@2\nsub < SUBACK 2 2\n";
    check(&(epochs(2, whole) + lost + again), "S2");
}

#[test]
fn an_exchange_of_long_ago_may_go_on() {
    // Message 3 was never answered, and comes again when everything around it is forgotten.
    let slow = |sequence: u64, received: String| match sequence {
        3 => "sub < PUBLISH qos=2 id=103 m=0/0/3\n".to_owned(),
        _ => received,
    };
    let again = "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n".to_owned()
        + "sub < PUBLISH qos=2 id=103 dup m=0/0/3\nsub > PUBREC 103\nsub < PUBREL 103\nsub > PUBCOMP 103\n";
    check(&(epochs(2, slow) + &again + &drained(2, 3 * EPOCH)), "+R5");
}

#[test]
fn a_message_that_is_not_finished_keeps_its_epoch() {
    let pending = epochs(1, whole).replacen("pub < PUBACK 3\n", "", 1);
    check(&(pending.clone() + "pub < PUBACK 3\nend"), "");
    let resent = "pub | rst\npub > CONNECT clean=0\npub < CONNACK sp=1\npub > PUBLISH qos=1 id=3 dup m=0/0/2\npub < PUBACK 3\n";
    let twice = "sub < PUBLISH qos=1 id=9 m=0/0/2\nsub > PUBACK 9\nend";
    check(&(pending + resent + twice), "");
}

#[test]
fn applications_are_compared_before_their_messages_are_forgotten() {
    let settled =
        |sequence: u64, received: String| received + &format!("sub | settled 0/0/{sequence} processed\n");
    check(&(epochs(1, settled) + "end"), "+A1 +A2");
    let twice = |sequence: u64, received: String| {
        settled(sequence, received) + &format!("sub | settled 0/0/{sequence} processed\n")
    };
    check(&(epochs(1, twice) + "end"), "A1 A2");
    // What was recognised early is processed late.
    let late = |sequence: u64, received: String| match sequence {
        3 => received.clone() + &received + "sub | settled 0/0/3 duplicate\n",
        _ => settled(sequence, received),
    };
    let finish = "sub | settled 0/0/3 processed\nend";
    check_3(&(epochs(1, late) + finish), "~D4 +A2");
    check_3(&(epochs(1, late) + "end"), "~D4 A2");
}
