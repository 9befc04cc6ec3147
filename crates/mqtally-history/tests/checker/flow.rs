//! F1 and F2.

use crate::support::*;

fn limited(qos: u8) -> String {
    let sent = (0..3).map(|n| published(qos, n)).collect::<String>();
    joined(qos).replacen("CONNECT clean=0", "CONNECT clean=0 rm=2", 1) + &sent
}

#[test]
fn no_more_unfinished_deliveries_than_the_receive_maximum() {
    let two = "sub < PUBLISH qos=1 id=1 m=0/0/0\nsub < PUBLISH qos=1 id=2 m=0/0/1\n";
    let third = "sub < PUBLISH qos=1 id=3 m=0/0/2\n";
    let acks = "sub > PUBACK 1\nsub > PUBACK 2\n";
    check_5(&(limited(1) + two + acks + third + "sub > PUBACK 3\n" + &drained(1, 3)), "+F1");
    check_5(&(limited(1) + two + third + acks + "sub > PUBACK 3\n" + &drained(1, 3)), "F1");
    // Without a limit there is none to test, and 3.1.1 has none.
    check_5(
        &(limited(1).replace("rm=2", "") + two + third + acks + "sub > PUBACK 3\n" + &drained(1, 3)),
        "-F1",
    );
    check_3(&(limited(1) + two + third + acks + "sub > PUBACK 3\n" + &drained(1, 3)), "-F1");
}

#[test]
fn pubrec_frees_no_place() {
    let exchange = "sub < PUBLISH qos=2 id=1 m=0/0/0
        sub > PUBREC 1
        sub < PUBLISH qos=2 id=2 m=0/0/1
        sub > PUBREC 2
        sub < PUBLISH qos=2 id=3 m=0/0/2
        sub > PUBREC 3
        sub < PUBREL 1
        sub > PUBCOMP 1
        sub < PUBREL 2
        sub > PUBCOMP 2
        sub < PUBREL 3
        sub > PUBCOMP 3\n";
    check_5(&(limited(2) + exchange + &drained(2, 3)), "F2");
}

#[test]
fn a_refusing_pubrec_frees_a_place_and_so_does_a_new_connection() {
    let refused = "sub < PUBLISH qos=2 id=1 m=0/0/0
        sub > PUBREC 1 rc=0x80
        sub < PUBLISH qos=2 id=2 m=0/0/1
        sub < PUBLISH qos=2 id=3 m=0/0/2
        sub | fin
        sub > CONNECT clean=0 rm=2
        sub < CONNACK sp=1
        sub < PUBLISH qos=2 id=2 dup m=0/0/1
        sub < PUBLISH qos=2 id=3 dup m=0/0/2
        sub > PUBREC 2
        sub > PUBREC 3
        sub < PUBREL 2
        sub > PUBCOMP 2
        sub < PUBREL 3
        sub > PUBCOMP 3\n";
    check_5(&(limited(2) + refused + &drained(2, 3)), "+F1");
}
