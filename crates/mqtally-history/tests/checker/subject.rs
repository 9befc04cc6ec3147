//! R12, S12, F6, O5, A3 and A4: somebody's own client behind the proxy. C1 to C8 are its mutants.

use crate::support::*;

fn publisher(qos: u8) -> String {
    joined(qos).replace("pub > CONNECT clean=0", "pub > CONNECT clean=0 subject")
}

fn subscriber(qos: u8) -> String {
    joined(qos).replacen("sub > CONNECT clean=0", "sub > CONNECT clean=0 subject", 1)
}

/// Cut, and back with this CONNACK.
fn back(client: &str, present: u8) -> String {
    format!("{client} | rst\n{client} > CONNECT clean=0 subject\n{client} < CONNACK sp={present}\n")
}

const PUBLISH: &str = "pub > PUBLISH qos=2 id=1 m=0/0/0\n";
const AGAIN: &str = "pub > PUBLISH qos=2 id=1 dup m=0/0/0\n";
const FINISH: &str = "pub < PUBREC 1\npub > PUBREL 1\npub < PUBCOMP 1\n";

fn end() -> String {
    received(2, 0) + &drained(2, 1)
}

#[test]
fn a_resumed_publisher_sends_again_what_is_unacknowledged() {
    let cut = publisher(2) + PUBLISH + &back("pub", 1);
    check(&(cut.clone() + AGAIN + FINISH + &end()), "+R12");
    // Without DUP, with another id (C2), and not at all.
    check(&(cut.clone() + &AGAIN.replace(" dup", "") + FINISH + &end()), "R12");
    let moved =
        (AGAIN.to_owned() + FINISH).replace("id=1", "id=7").replace(" 1\n", " 7\n").replace(" dup", "");
    check(&(cut.clone() + &moved + &end()), "R12");
    check(&(cut.clone() + "pub > PINGREQ\npub < PINGRESP\nwait 6\npub | fin\nend"), "R12");
    check(&(cut + "pub > PINGREQ\npub < PINGRESP\nwait 1\npub | fin\nend"), "-R12");
}

#[test]
fn what_was_written_into_a_dead_connection_is_sent_again_with_dup() {
    let unseen = "pub > PUBLISH qos=1 id=1 dup m=0/0/0\npub < PUBACK 1\n";
    let new = "pub > PUBLISH qos=1 id=2 m=0/0/1\npub < PUBACK 2\n";
    let come = received(1, 0) + &received(1, 1) + &drained(1, 2);
    check(&(publisher(1) + &back("pub", 1) + unseen + new + &come), "-R12");
    let late = received(1, 1) + &received(1, 0) + &drained(1, 2);
    check(&(publisher(1) + &back("pub", 1) + new + unseen + &late), "~R12");
}

#[test]
fn what_is_sent_again_comes_in_its_old_order() {
    let two = publisher(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0\npub > PUBLISH qos=1 id=2 m=0/0/1\n"
        + &back("pub", 1);
    let again = |id: u8| format!("pub > PUBLISH qos=1 id={id} dup m=0/0/{}\npub < PUBACK {id}\n", id - 1);
    let come = received(1, 0) + &received(1, 1) + &drained(1, 2);
    check(&(two.clone() + &again(1) + &again(2) + &come), "+R12");
    check(&(two + &again(2) + &again(1) + &come), "R12");
}

#[test]
fn an_acknowledgement_that_may_not_have_been_read_proves_nothing() {
    let unread = publisher(2) + PUBLISH + "pub < PUBREC 1\n" + &back("pub", 1);
    check(&(unread.clone() + AGAIN + FINISH + &end()), "+R12");
    check(&(unread + "pub > PUBREL 1\npub < PUBCOMP 1\n" + &end()), "+R12");
    let puback = publisher(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0\npub < PUBACK 1\n";
    let again = "pub > PUBLISH qos=1 id=1 dup m=0/0/0\npub < PUBACK 1\n";
    let come = received(1, 0) + &drained(1, 1);
    check(&(puback.clone() + &back("pub", 1) + again + &come), "+R12");
    // It answered something that was written behind: so it had read it.
    let read = puback + "pub < PUBLISH qos=1 id=5 topic=x m=foreign\npub > PUBACK 5\n" + &back("pub", 1);
    check(&(read.clone() + again + &come), "R12");
    check(&(read + &come), "-R12");
}

#[test]
fn c1_publish_after_pubrel() {
    let released = publisher(2) + PUBLISH + "pub < PUBREC 1\npub > PUBREL 1\n" + &back("pub", 1);
    check(&(released.clone() + "pub > PUBREL 1\npub < PUBCOMP 1\n" + &end()), "+R12");
    // The broker takes it for a new message; that is not the broker's fault.
    let twice = "sub < PUBLISH qos=2 id=50 m=0/0/0\nsub > PUBREC 50\nsub < PUBREL 50\nsub > PUBCOMP 50\n";
    check(&(released + AGAIN + FINISH + twice + &end()), "R12");
}

#[test]
fn c3_a_session_that_the_broker_does_not_have() {
    let gone = |packet: &str| {
        publisher(2) + PUBLISH + "pub < PUBREC 1\n" + "broker killed\n" + &back("pub", 0) + packet
    };
    check_5(&(gone(AGAIN) + FINISH + &end()), "S12");
    check_5(&(gone("pub > PUBREL 1\npub < PUBCOMP 1 rc=0x92\n") + "end"), "S12");
    check_3(&(gone(AGAIN) + FINISH + &end()), "-S12");
    // To submit it anew is right.
    check_5(&(gone(PUBLISH) + FINISH + &end()), "+S12");
}

#[test]
fn c5_acknowledgements_go_out_in_order() {
    let two = subscriber(1)
        + &published(1, 0)
        + &published(1, 1)
        + "sub < PUBLISH qos=1 id=100 m=0/0/0\nsub < PUBLISH qos=1 id=101 m=0/0/1\n";
    check(&(two.clone() + "sub > PUBACK 100\nsub > PUBACK 101\n" + &drained(1, 2)), "+O5");
    check(&(two + "sub > PUBACK 101\nsub > PUBACK 100\n" + &drained(1, 2)), "O5");
    check(&(subscriber(1) + "sub > PUBACK 77\nend"), "R12");
}

#[test]
fn c6_the_servers_receive_maximum() {
    let small = publisher(1).replace("pub < CONNACK sp=0", "pub < CONNACK sp=0 rm=1")
        + "pub > PUBLISH qos=1 id=1 m=0/0/0\n";
    let second = "pub > PUBLISH qos=1 id=2 m=0/0/1\n";
    let come = "pub < PUBACK 2\n".to_owned() + &received(1, 0) + &received(1, 1) + &drained(1, 2);
    check_5(&(small.clone() + "pub < PUBACK 1\n" + second + &come), "+F6");
    check_5(&(small + second + "pub < PUBACK 1\n" + &come), "F6");
}

#[test]
fn c4_what_is_acknowledged_is_processed() {
    let two = subscriber(1) + &published(1, 0) + &received(1, 0) + &published(1, 1) + &received(1, 1);
    let last = "sub | settled 0/0/1 processed\n";
    check(&(two.clone() + "sub | settled 0/0/0 processed\n" + last + &drained(1, 2)), "+A3");
    check(&(two.clone() + last + &drained(1, 2)), "A3");
    // Nothing behind it was reported.
    check(&(two.clone() + "sub | settled 0/0/0 processed\n" + &drained(1, 2)), "+A3");
    check(&(two + &drained(1, 2)), "-A3");
}

#[test]
fn c4_what_a_dead_process_had_taken_over_is_processed_by_the_next() {
    let taken = subscriber(2)
        + &published(2, 0)
        + &published(2, 1)
        + "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\nsub | rst\nsub | wiped\n\
           sub > CONNECT clean=0 subject\nsub < CONNACK sp=1\nsub < PUBREL 100\nsub > PUBCOMP 100\n"
        + &received(2, 1)
        + "sub | settled 0/0/1 processed\n";
    check(&(taken.clone() + "sub | settled 0/0/0 processed\n" + &drained(2, 2)), "+A3");
    check(&(taken + &drained(2, 2)), "A3");
}

#[test]
fn c7_a_qos_2_message_is_processed_once() {
    let again = subscriber(2)
        + &published(2, 0)
        + "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\nsub < PUBREL 100\nsub > PUBCOMP 100\n"
        + &back("sub", 1)
        + "sub < PUBREL 100\nsub > PUBCOMP 100\nsub | settled 0/0/0 processed\n";
    check(&(again.clone() + &drained(2, 1)), "+A2");
    check(&(again + "sub | settled 0/0/0 processed\n" + &drained(2, 1)), "A2");
    // At QoS 1 a program may process each copy.
    let copies = subscriber(1)
        + &published(1, 0)
        + &received(1, 0)
        + &back("sub", 1)
        + &receiving(1, 0, "dup")
        + &"sub | settled 0/0/0 processed\n".repeat(2);
    check(&(copies + &drained(1, 1)), "+A2");
}

#[test]
fn what_a_broker_hands_over_twice_is_not_its_client_s_fault() {
    let exchange =
        "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\nsub < PUBREL 100\nsub > PUBCOMP 100\n";
    let settled = "sub | settled 0/0/0 processed\n";
    let twice = subscriber(2) + &published(2, 0) + exchange + settled + exchange + settled;
    check(&(twice.clone() + &drained(2, 1)), "D3 R3 +A2");
    // It is told that there is no session, and may remember nothing of one.
    let taken = "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\n";
    let denied = subscriber(2)
        + &published(2, 0)
        + taken
        + settled
        + "sub | rst\nsub > CONNECT clean=0 subject\nsub < CONNACK sp=0\nsub > SUBSCRIBE 2 a@2\nsub < SUBACK 2 2\n"
        + exchange
        + settled;
    check(&(denied + &drained(2, 1)), "S2 +A2");
    // What comes again without DUP may be a new message, to one that comes from its store.
    let unmarked = subscriber(2)
        + &published(2, 0)
        + "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub | rst\nsub | ends\nsub > CONNECT clean=0 subject\n\
           sub < CONNACK sp=1\n"
        + exchange
        + settled
        + settled
        + &drained(2, 1);
    check(&unmarked, "R5 +A2");
    check(&(twice + settled + &drained(2, 1)), "D3 R3 A2");
}

#[test]
fn what_comes_again_before_it_is_answered_is_answered_in_its_first_place() {
    let again = subscriber(1)
        + &published(1, 0)
        + &published(1, 1)
        + "sub < PUBLISH qos=1 id=100 m=0/0/0\nsub < PUBLISH qos=1 id=101 m=0/0/1\n\
           sub < PUBLISH qos=1 id=100 dup m=0/0/0\n";
    let answered = again.clone() + "sub > PUBACK 100\nsub > PUBACK 101\n" + &drained(1, 2);
    check_3(&answered, "~D4 ~R11 +O5");
    check_3(&(again + "sub > PUBACK 101\nsub > PUBACK 100\n" + &drained(1, 2)), "~D4 ~O3 ~R11 O5");
}

#[test]
fn c8_published_is_said_of_what_is_acknowledged() {
    let sent = publisher(2) + PUBLISH;
    check(&(sent.clone() + FINISH + "pub | claims 0/0/0\n" + &end()), "+A4");
    check(
        &(sent.clone() + "pub < PUBREC 1\npub | claims 0/0/0\npub > PUBREL 1\npub < PUBCOMP 1\n" + &end()),
        "+A4",
    );
    check(&(sent + "pub | claims 0/0/0\n" + FINISH + &end()), "A4");
    check(&(publisher(0) + &published(0, 0) + "pub | claims 0/0/0\n" + &drained(0, 1)), "+A4");
}

#[test]
fn our_own_clients_are_not_judged() {
    let own = joined(2) + PUBLISH + "pub | rst\npub > CONNECT clean=0\npub < CONNACK sp=1\n";
    check(&(own + &AGAIN.replace(" dup", "") + FINISH + &end()), "-R12 -O5");
}

#[test]
fn what_a_dead_process_had_in_flight_is_not_held_against_the_next() {
    let dead = |id: u8, packet: &str| {
        publisher(2)
            + PUBLISH
            + "pub < PUBREC 1\npub | rst\npub | wiped\npub > CONNECT clean=0 subject\npub < CONNACK sp=1\n"
            + packet
            + &format!("pub < PUBREC {id}\npub > PUBREL {id}\npub < PUBCOMP {id}\n")
    };
    let other = "pub > PUBLISH qos=2 id=1 m=0/0/1\n";
    // It went on where it was; it forgot and took another id; it took the id that the broker still holds.
    check(&(dead(1, AGAIN) + &end()), "+A5");
    check(&(dead(2, &other.replace("id=1", "id=2")) + &received(2, 1) + &drained(2, 2)), "+A5");
    check(&(dead(1, other) + &received(2, 1) + &drained(2, 2)), "~R12 +A5");
}

#[test]
fn what_a_dead_process_had_in_its_store_the_next_goes_on_with() {
    let dead = |end: &str, packet: &str| {
        publisher(2)
            + PUBLISH
            + &format!("pub | rst\npub | {end}\npub > CONNECT clean=0 subject\npub < CONNACK sp=1\n")
            + packet
            + FINISH
            + &received(2, 0)
            + &drained(2, 1)
    };
    let unmarked = AGAIN.replace(" dup", "");
    check(&dead("ends", AGAIN), "+R12 +A5");
    check(&dead("ends", &unmarked), "R12");
    check(&dead("wiped", &unmarked), "-R12");
    // Nor may the broker forget it.
    let forgotten = "sub | rst\nsub | ends\nsub > CONNECT clean=0 subject\nsub < CONNACK sp=0\nend\n";
    check(&(subscriber(1) + forgotten), "S2");
}

#[test]
fn a_program_comes_back_to_its_session() {
    let other = "sub | rst\nsub | wiped\nnew > CONNECT clean=0 subject\nnew < CONNACK sp=0\n";
    check(&(subscriber(1) + other + "end"), "A5");
    // It has two ids, and comes back to this one later.
    let later = other.to_owned() + "sub > CONNECT clean=0 subject\nsub < CONNACK sp=1\n";
    check(&(subscriber(1) + &later + &drained(1, 0)), "+A5");
    // What it asks for under the other id is no session.
    check(&(subscriber(1) + &other.replace("clean=0", "clean=1") + "end"), "-A5");
    let same = other.replace("new", "sub").replace("sp=0", "sp=1");
    check(&(subscriber(1) + &same + &drained(1, 0)), "+A5");
    // Nobody asked for a session.
    let clean = subscriber(1).replace("sub > CONNECT clean=0 subject", "sub > CONNECT clean=1 subject");
    check(&(clean + &other.replace("clean=0", "clean=1") + "end"), "-A5");
}

#[test]
fn a_killed_program_may_process_again_what_it_was_at() {
    let once = subscriber(2) + &published(2, 0) + &received(2, 0) + "sub | settled 0/0/0 processed\n";
    let twice = "sub | settled 0/0/0 processed\n";
    check(&(once.clone() + "sub | wiped\n" + twice + &drained(2, 1)), "+A2");
    check(&(once.clone() + twice + "sub | wiped\n" + &drained(2, 1)), "A2");
    check(&(once + "sub | wiped\n" + twice + twice + &drained(2, 1)), "A2");
}

#[test]
fn a_pubrel_that_was_read_is_answered() {
    let released = subscriber(2)
        + &published(2, 0)
        + "sub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\nsub < PUBREL 100\n";
    let read = "sub < PUBLISH qos=1 id=5 topic=x m=foreign\nsub > PUBACK 5\nwait 6\n";
    check(&(released.clone() + read + "sub > PUBCOMP 100\n" + &drained(2, 1)), "-R12");
    check(&(released.clone() + read + &drained(2, 1)), "R12");
    // Nothing proves that it has read it.
    check(&(released + "wait 6\nend"), "-R12");
    // Somebody else began the exchange: the client has never seen it.
    let stray = subscriber(2)
        + &published(2, 0)
        + "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\nsub < PUBLISH qos=2 id=100 m=0/0/0\nsub > PUBREC 100\n\
           sub < PUBREL 100\nsub | fin\nsub > CONNECT clean=0 subject\nsub < CONNACK sp=1\nsub < PUBREL 100\n";
    check(&(stray.clone() + "sub > PUBCOMP 100\n" + &drained(2, 1)), "+R12 +R2");
    check(&(stray + read + &drained(2, 1)), "R12");
}

#[test]
fn a_packet_of_the_client_that_is_not_well_formed_is_its_own() {
    let history = publisher(1) + "pub | unlawful reserved bits are set\nend";
    check(&history, "~P1");
    let report = report_on(
        mqtally_history::packet::Version::V5_0,
        mqtally_history::profile::Profile::Volatile,
        &history,
    );
    assert_eq!(
        report.findings[0].message,
        "the client under test, pub, sent a packet that is not well-formed: reserved bits are set"
    );
}

#[test]
fn findings_say_what_mqtt_wants_and_what_mends_it() {
    let report = report_on(
        mqtally_history::packet::Version::V5_0,
        mqtally_history::profile::Profile::Volatile,
        &(publisher(2) + PUBLISH + &back("pub", 1) + &AGAIN.replace(" dup", "") + FINISH + &end()),
    );
    let finding = report.findings.iter().find(|it| it.promise == "R12").expect("found");
    assert_eq!(
        finding.message,
        "the client under test, pub, sent PUBLISH again without DUP (PUBLISH id 1). MQTT: DUP is 1 on whatever is \
         sent again. To mend it: set the DUP bit when a stored PUBLISH is written again"
    );
}

/// A program that begins its packet ids anew publishes under one that the broker still holds: the broker drops the
/// message, and rightly.
#[test]
fn what_is_published_under_an_id_of_another_life_is_not_lost_by_the_broker() {
    let complete = |id: u8, sequence: u8| {
        format!(
            "c > PUBLISH qos=2 id={id} m=7/0/{sequence}\nc < PUBREC {id}\nc > PUBREL {id}\nc < PUBCOMP {id}\n"
        )
    };
    let came = |sequence: u8| {
        format!(
            "sub < PUBLISH qos=2 id=5{sequence} m=7/0/{sequence}\nsub > PUBREC 5{sequence}\nsub < PUBREL 5{sequence}\n\
             sub > PUBCOMP 5{sequence}\n"
        )
    };
    let first = joined(2)
        + "c > CONNECT clean=0 subject\nc < CONNACK sp=0\nc > PUBLISH qos=2 id=1 m=7/0/0\nc < PUBREC 1\n";
    let again =
        first.clone() + &came(0) + "c | rst\nc | wiped\nc > CONNECT clean=0 subject\nc < CONNACK sp=1\n";
    check(&(again.clone() + &complete(1, 1) + &complete(2, 2) + &came(2) + "end"), "~R12");
    // Any other id is its own.
    check(&(again + &complete(3, 1) + &complete(2, 2) + &came(2) + "end"), "D2");
}
