//! What cannot be opened says why.

use crate::laws::settings;
use crate::postgres_support::Server;
use mqtally::inbox::Inbox;
use mqtally::inbox::dead_letter::DeadLetters;

fn refused(url: &str) -> String {
    match Inbox::open_shared(&url.parse().unwrap(), "a", settings()) {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let Some(server) = Server::start() else { return };
    let check = |url: &str, expect: &[&str]| {
        let error = refused(url);
        assert!(expect.iter().all(|part| error.contains(part)), "{error}");
    };
    let socket = server.socket().display();
    check(
        "postgres://app@127.0.0.1:1/d",
        &["postgres://app@127.0.0.1:1/d: cannot be reached", "Connection refused"],
    );
    check(
        &format!("postgres://app@/nothing?host={socket}"),
        &["database \"nothing\" does not exist", "createdb"],
    );
    check(
        &format!("postgres://nobody@/postgres?host={socket}"),
        &["role \"nobody\" does not exist", "pg_hba.conf"],
    );

    server.value("CREATE SCHEMA taken; CREATE TABLE taken.something(x int)");
    check(&server.url("taken"), &["schema \"taken\" is no inbox"]);
    server.value("CREATE SCHEMA odd; CREATE TABLE odd.meta(x int)");
    check(&server.url("odd"), &["schema \"odd\" is no inbox"]);

    server.value("CREATE ROLE weak LOGIN");
    check(
        &format!("postgres://weak@/postgres?host={socket}"),
        &["permission denied for database", "what the user may do"],
    );

    let (inbox, notices) = Inbox::open_shared(&server.url("new").parse().unwrap(), "a", settings()).unwrap();
    assert!(notices.iter().any(|notice| notice.0.contains("fsync = off")), "{notices:?}");
    drop(inbox);
    server.value("UPDATE new.meta SET version = 99");
    check(&server.url("new"), &["has format 99, this program reads up to 2", "use the newer program"]);
    server.value("UPDATE new.meta SET version = 1");
    check(&server.url("new"), &["has format 1, this program reads format 2", "work it off"]);

    server.value("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    check(
        &format!("postgres://app@/latin?host={socket}"),
        &["encoding is LATIN1", "createdb --encoding=UTF8"],
    );

    let missing =
        DeadLetters::attach_shared(&server.url("nowhere").parse().unwrap()).unwrap_err().to_string();
    assert!(missing.contains("no inbox in the schema \"nowhere\""), "{missing}");
    assert_eq!(server.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'nowhere'"), 0);
}

#[tokio::test]
async fn a_connection_that_is_to_be_encrypted_is_encrypted_or_refused() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(mut server) = Server::start_encrypted(&certificate, &key) else { return };
    let port = server.port();
    let directory = tempfile::tempdir().unwrap();
    let [ca, stranger] = ["ca", "stranger"].map(|name| directory.path().join(name));
    std::fs::write(&ca, certificate).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&stranger, other.cert.pem()).unwrap();
    let url = |host: &str, more: &str| format!("postgres://app@{host}:{port}/postgres?schema=s{more}");
    let secured = format!("&sslmode=require&sslrootcert={}", ca.display());
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'mqtally' AND ssl";

    let (inbox, _) =
        Inbox::open_shared(&url("127.0.0.1", &secured).parse().unwrap(), "a", settings()).unwrap();
    assert_eq!(server.count(encrypted), 1);
    inbox.close().await;
    let (inbox, _) = Inbox::open_shared(&url("127.0.0.1", "").parse().unwrap(), "a", settings()).unwrap();
    assert_eq!(server.count(encrypted), 0);
    inbox.close().await;

    let check = |host: &str, more: &str, expect: &str| {
        let error = refused(&url(host, more));
        assert!(error.contains(expect) && error.contains("sslrootcert"), "{error}");
    };
    check("localhost", &secured, "not valid for name");
    check(
        "127.0.0.1",
        &format!("&sslmode=require&sslrootcert={}", stranger.display()),
        "invalid peer certificate",
    );
    check("127.0.0.1", "&sslmode=require&sslrootcert=nowhere", "cannot read the CA file nowhere");
    server.stop_encrypting();
    check("127.0.0.1", &secured, "server does not support TLS");
}
