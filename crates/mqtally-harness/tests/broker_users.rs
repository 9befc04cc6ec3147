//! The users file of the broker.

use mqtally_harness::broker::users::{self, Users, UsersError};

/// Written by `mosquitto_passwd -b FILE ann secret`.
const BY_MOSQUITTO: &str = "ann:$7$101$WT7ZzIGpEt5cGTS6$c5LJu95/GvhnwyuElWur2hZOWiVwPbxzpRSorMz5BAdtNrHIwD0SyZIGLZHMplA+8UFmpAPu\
    XdfziDIxLLP/ig==\n";

#[test]
fn an_entry_of_mosquitto_passwd_is_understood() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    std::fs::write(&file, BY_MOSQUITTO).expect("written");
    let users = Users::load(&file).expect("understood");
    assert!(users.verify("ann", b"secret"));
    assert!(!users.verify("ann", b"Secret"));
    assert!(!users.verify("bob", b"secret"));
}

#[test]
fn adding_a_user_keeps_the_others_and_replaces_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    std::fs::write(&file, format!("# people\n{BY_MOSQUITTO}")).expect("written");
    users::add_user(&file, "bob", b"first").expect("added");
    users::add_user(&file, "bob", b"second").expect("replaced");
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(text.starts_with(&format!("# people\n{BY_MOSQUITTO}bob:$7$210000$")), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let users = Users::load(&file).expect("understood");
    assert!(users.verify("bob", b"second") && users.verify("ann", b"secret"));
}

#[test]
fn a_line_that_is_no_entry_is_named_by_its_number() {
    let check = |line: &str, expected: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("users");
        std::fs::write(&file, format!("{BY_MOSQUITTO}\n{line}\n")).expect("written");
        let error = Users::load(&file).expect_err(line);
        assert!(
            matches!(&error, UsersError::Line { line: 3, detail, .. } if detail.contains(expected)),
            "{error}"
        );
    };
    check("bob", "no ':'");
    check("bob:secret", "not hashed");
    check("bob:$6$c2FsdA==$aGFzaA==", "not hashed");
    check("bob:$7$many$c2FsdA==$aGFzaA==", "not a number");
    check("bob:$7$0$c2FsdA==$aGFzaA==", "between");
    check("bob:$7$101$!$aGFzaA==", "salt");
    check("bob:$7$101$c2FsdA==$!", "hash is not Base64");
    check("bob:$7$101$c2FsdA==$aGFzaA==", "64 bytes");
    check(BY_MOSQUITTO.trim_end(), "has an entry already");
}

#[test]
fn a_name_that_no_line_can_hold_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    for name in ["", "a:b", "a\nb", "#a"] {
        assert!(matches!(users::add_user(&file, name, b"x"), Err(UsersError::Name)), "{name:?}");
    }
    assert!(!file.exists());
}
