//! S1 to S4, S7, S8, S9 and S13.

use crate::support::*;

#[test]
fn a_clean_start_has_no_session_present() {
    check("group g\nc > CONNECT clean=1\nc < CONNACK sp=0\nend", "+S1 -S2");
    check("group g\nc > CONNECT clean=1\nc < CONNACK sp=1\nend", "S1");
}

#[test]
fn session_present_tells_the_truth() {
    let first = "group g\nc > CONNECT clean=0\nc < CONNACK sp=0\n".to_owned();
    let back = "c | fin\nc > CONNECT clean=0\nc < CONNACK sp=1\n";
    check(&(first.clone() + back + "end"), "+S2 -S1");
    check(&(first.clone() + &back.replace("sp=1", "sp=0") + "end"), "S2");
    check(&(first.replace("sp=0", "sp=1") + "end"), "S2");
}

#[test]
fn a_takeover_finds_the_session() {
    let taken = "group g
        c > CONNECT clean=0
        c < CONNACK sp=0
        c > CONNECT clean=0
        c < CONNACK sp=1
        c#1 | closed
        end";
    check(taken, "+S2 +S9 +S10");
    check(&taken.replace("sp=1", "sp=0"), "S10 S2");
}

#[test]
fn a_taken_over_connection_is_closed_in_time() {
    let open = "group g
        c > CONNECT clean=0
        c < CONNACK sp=0
        c > CONNECT clean=0
        c < CONNACK sp=1\n";
    check(&(open.to_owned() + "end"), "-S9");
    check(&(open.to_owned() + "wait 6\nend"), "S9");
    check(&(open.to_owned() + "wait 6\nc#1 | closed\nend"), "+S9");
    // Who gives up and closes it himself has seen that the broker did not.
    check(&(open.to_owned() + "wait 6\nc#1 | fin\nend"), "S9");
    check(&(open.to_owned() + "c#1 | fin\nend"), "-S9");
    check(&(open.to_owned() + "c#1 | broken\nend"), "+S9");
    let live = joined(1)
        + "sub > CONNECT clean=0
        sub < CONNACK sp=1\n"
        + &published(1, 0)
        + "sub#1 < PUBLISH qos=1 id=100 m=0/0/0
        sub#1 > PUBACK 100
        end";
    check(&live, "S9");
}

#[test]
fn a_clean_session_ends_with_its_connection() {
    let clean = "group g
        c > CONNECT clean=1
        c < CONNACK sp=0
        c > DISCONNECT
        c | fin
        c > CONNECT clean=0
        c < CONNACK sp=0
        end";
    check_3(clean, "+S13");
    check_3(&clean.replacen("sp=0\n        end", "sp=1\n        end", 1), "S13");
    check_5(clean, "+S2");
    check_5(&clean.replacen("sp=0\n        end", "sp=1\n        end", 1), "S2");
}

/// The proxy connects with the client's CONNECT before that goes on, and no history shows its connections: a session
/// that they began was found by the client, and taken for one that had ended.
#[test]
fn the_connections_of_a_storm_may_have_begun_a_session_and_end_none_that_lasts() {
    let begun = "group g
        c > CONNECT clean=1
        c < CONNACK sp=0
        c > DISCONNECT
        c | fin
        c > CONNECT clean=0
        fault connect-storm c
        c < CONNACK sp=1
        end";
    check_3(begun, "-S13");
    check_5(begun, "-S2");
    check_3(&begun.replace("connect-storm", "takeover"), "S13");
    check_3(&begun.replace("fault connect-storm c", "fault connect-storm other"), "S13");
    let expired = "group g
        c > CONNECT clean=1 expiry=5
        c < CONNACK sp=0
        c | fin
        wait 20
        c > CONNECT clean=0 expiry=5
        fault connect-storm c
        c < CONNACK sp=1
        end";
    check_5(expired, "-S2");
    check_5(&expired.replace("connect-storm", "takeover"), "~S8");
    let lasting = joined(1)
        + "sub | fin
        sub > CONNECT clean=0
        fault connect-storm sub
        sub < CONNACK sp=0
        end";
    check(&lasting, "S2");
}

#[test]
fn an_unanswered_connect_leaves_the_session_in_doubt() {
    let aborted = "group g
        c > CONNECT clean=0
        c < CONNACK sp=0
        c | fin
        c > CONNECT clean=1
        c | rst
        c > CONNECT clean=0
        c < CONNACK sp=0
        end";
    check(aborted, "-S2");
    check(&aborted.replacen("sp=0\n        end", "sp=1\n        end", 1), "-S2");
    // One that could only begin the session does not end it.
    let harmless = aborted.replace("CONNECT clean=1", "CONNECT clean=0");
    check(&harmless, "S2");
}

#[test]
fn a_session_lives_until_it_expires() {
    let away = |seconds: f64, present: u8| {
        format!(
            "group g\nc > CONNECT clean=0 expiry=10\nc < CONNACK sp=0\nc | fin\nwait {seconds}\n\
             c > CONNECT clean=0 expiry=10\nc < CONNACK sp={present}\nend"
        )
    };
    check_5(&away(6.0, 1), "+S7 +S2");
    check_5(&away(6.0, 0), "S2 S7");
    check_5(&away(9.5, 0), "-S7 -S2");
    check_5(&away(10.5, 1), "-S8");
    check_5(&away(12.5, 0), "+S8");
    check_5(&away(12.5, 1), "~S8");
    // In 3.1.1 a session has no expiry.
    check_3(&away(12.5, 1), "+S2");
    // The server's own interval counts, and one that DISCONNECT sets.
    check_5(&away(6.0, 0).replace("sp=0\nc | fin", "sp=0 expiry=5\nc | fin"), "-S7");
    check_5(&away(6.0, 0).replace("c | fin", "c > DISCONNECT expiry=5\nc | fin"), "-S7");
}

#[test]
fn on_a_dead_connection_the_broker_may_have_given_up_long_before_its_client() {
    let returns = |end: &str| {
        format!(
            "group g\nc > CONNECT clean=0 expiry=10\nc < CONNACK sp=0\nwait 20\n{end}\n\
             c > CONNECT clean=0 expiry=10\nc < CONNACK sp=0\nend"
        )
    };
    for end in ["c | fin", "c | rst", ""] {
        check_5(&returns(end), "-S2 -S7");
        // What came last may have been on its way since before the connection died; an answer to a late question was not.
        check_5(&returns(&format!("c < DISCONNECT\n{end}")), "-S2 -S7");
        let lost = if end.is_empty() { "S2 S10" } else { "S2" };
        check_5(&returns(&format!("c > PINGREQ\nc < PINGRESP\n{end}")), lost);
    }
}

#[test]
fn a_refusal_has_no_session_present_and_nothing_behind_it() {
    let refused = "group g\nc > CONNECT clean=0\nc < CONNACK sp=0 rc=0x87\nc | closed\nend";
    check(refused, "+S3 -S2");
    check(&refused.replace("sp=0", "sp=1"), "S3");
    check(&refused.replace("c | closed", "c < PINGRESP\nc | closed"), "S3");
}

#[test]
fn connack_comes_first_and_once() {
    let first = "group g\nc > CONNECT clean=1\nc < CONNACK sp=0\n";
    check(&(first.to_owned() + "c < PINGRESP\nend"), "+S4");
    check(&(first.to_owned() + "c < CONNACK sp=0\nend"), "S4");
    check("group g\nc > CONNECT clean=1\nc < PINGRESP\nc < CONNACK sp=0\nend", "S4");
}

#[test]
fn a_clean_start_brings_nothing_back() {
    let clean = joined(1)
        + &published(1, 0)
        + "sub | fin
        sub > CONNECT clean=1
        sub < CONNACK sp=0\n";
    check(&(clean.clone() + &published(1, 1) + "end"), "+D11 +S1");
    // The old filter.
    check(&(clean.clone() + &published(1, 1) + &received(1, 1) + "end"), "D11");
    // An old message.
    check(&(clean.clone() + &received(1, 0) + "end"), "D11");
    let anew = clean.clone() + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n";
    check(&(anew.clone() + &received(1, 0) + &drained(1, 1)), "D11");
    check(&(anew + &drained(1, 1)), "+D11");
    // One that its publisher submitted anew since.
    let again = "pub > PUBLISH qos=1 id=9 m=0/0/0\npub < PUBACK 9\n";
    let anew = clean + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n" + again;
    check(&(anew + &received(1, 0) + &drained(1, 1)), "+S1");
}

#[test]
fn a_takeover_goes_on_with_what_was_unfinished() {
    let taken = joined(1)
        + &published(1, 0)
        + "sub < PUBLISH qos=1 id=100 m=0/0/0
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub#1 | closed\n";
    let again = "sub < PUBLISH qos=1 id=100 dup m=0/0/0\nsub > PUBACK 100\n";
    check(&(taken.clone() + again + &drained(1, 1)), "+S10 +R1");
    check(&(taken + &drained(1, 1)), "R1 S10");
}

#[test]
fn a_disconnect_can_set_another_expiry() {
    let back = |expiry: u32, seconds: u32, present: u8| {
        format!(
            "group g\nc > CONNECT clean=0 expiry=10\nc < CONNACK sp=0\nc > DISCONNECT expiry={expiry}\nc | fin\n\
             wait {seconds}\nc > CONNECT clean=0 expiry=10\nc < CONNACK sp={present}\nend"
        )
    };
    check_5(&back(0, 0, 0), "+S11 -S2");
    check_5(&back(0, 0, 1), "S11");
    check_5(&back(60, 15, 1), "+S11");
    check_5(&back(60, 15, 0), "S11");
    check_5(&back(2, 5, 0), "+S11 -S8");
    check_5(&back(2, 5, 1), "~S11");
    check_5(&back(0, 0, 1).replace("c | fin", "c | rst"), "-S11");
    // What the server has said to be its limit is its limit here, too.
    check_5(&back(60, 15, 0).replacen("sp=0", "sp=0 expiry=5", 1), "-S11");
    check_5(&back(60, 0, 1).replacen("expiry=10", "expiry=0", 1), "-S11");
}
