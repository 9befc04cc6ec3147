//! How handlers and routes are typed, and which handler takes a topic.

mod handler_support;

use handler_support::{delivery, handle, refused};
use mqtally::handler::{Handler, Options, Route, Routes, Spec, SpecError};
use mqtally::inbox::Outcome;
use mqtally_proto::topic::TopicError;

fn check(typed: &str, expect: &str) {
    let shown = typed.parse::<Spec>().map_or_else(|error| error.to_string(), |spec| spec.to_string());
    assert_eq!(shown, expect, "{typed:?}");
}

#[test]
fn each_form_names_its_handler() {
    for typed in [
        "print",
        "jsonl:out.jsonl",
        "jsonl:C:\\logs\\out.jsonl",
        "exec:./page.sh --urgent a:b",
        "stdio:python3 -u worker.py",
        "http://localhost:8080",
        "sqlite:dir/x.db?table=t",
        "sqlite:what?.db?table=odd \"name\"; DROP",
    ] {
        check(typed, typed);
    }
    check("exec: ./page.sh ", "exec:./page.sh");
    check("mqtt://u:secret@h?prefix=a%26b/&qos=1&outbox=o.db", "mqtt://u:***@h:1883?prefix=a&b/");
    check("wss://h/mqtt?token=secret&prefix=x/", "wss://h:443/mqtt?***&prefix=x/");
    check("unix:/run/broker.sock?qos=0", "unix:/run/broker.sock");
}

#[test]
fn a_webhooks_secrets_are_never_shown() {
    let typed = "https://user:pw@example.com/T0/secret?token=x";
    check(typed, "https://example.com/…");
    let spec: Spec = typed.parse().unwrap();
    assert!(!format!("{spec:?}").contains("secret"));
}

#[test]
fn what_is_no_handler_is_refused_with_a_way_out() {
    const FORMS: &str = "print, jsonl:FILE, exec:CMD, stdio:CMD, http(s)://URL, sqlite:FILE?table=NAME, \
         postgres://USER@HOST/DATABASE?table=NAME or mqtt(s)://HOST:PORT";
    check("", &format!("\"\" is no handler; use {FORMS}"));
    check("prnt", &format!("\"prnt\" is no handler; use {FORMS}"));
    check("mqtt", &format!("\"mqtt\" is no handler; use {FORMS}"));
    check("ftp://u:secret@h/x", &format!("\"ftp\" is no handler; use {FORMS}"));
    check(
        "postgres://u:secret@h/db",
        "a postgres:// handler needs a table; write postgres://USER@HOST/DATABASE?table=NAME",
    );
    check("mqtt://", "the broker URL has no host; write mqtt://HOST:PORT");
    check(
        "mqtt://h?prefix=a/%2B/",
        "the prefix \"a/+/\" contains a wildcard at byte 2 [MQTT-3.3.2-2]; correct it",
    );
    const OPTIONS: &str = "is no option of a broker as handler; use prefix=TEXT, qos=0|1|2, client-id=ID, \
         outbox=FILE, cafile=FILE, or cert=FILE&key=FILE";
    check("mqtt://h?table=t", &format!("\"table\" {OPTIONS}"));
    check("mqtts://h?qos=3", &format!("\"qos=3\" {OPTIONS}"));
    check("mqtts://h?cert=c.pem", &format!("\"cert without key, or key without cert\" {OPTIONS}"));
    check("print:x", "print takes nothing after it; how a line looks is set apart from it");
    check("jsonl", "jsonl: names no file; write jsonl:FILE");
    check("jsonl:", "jsonl: names no file; write jsonl:FILE");
    check("exec:  ", "exec: names no command; write exec:CMD");
    check("exec:a\0b", "exec: names no command; write exec:CMD");
    check("stdio", "stdio: names no command; write stdio:CMD");
    check("sqlite:", "sqlite: names no file; write sqlite:FILE?table=NAME");
    let no_table = "sqlite:FILE needs a table and takes nothing else; write sqlite:FILE?table=NAME";
    for typed in ["sqlite:x.db", "sqlite:x.db?table=", "sqlite:?table=t", "sqlite:x.db?mode=ro"] {
        check(typed, no_table);
    }
    let refused = |why: &str| format!("{why}; use another name");
    check(
        "sqlite:x?table=SQLite_x",
        &refused("\"SQLite_x\" cannot be a table here: SQLite keeps names with sqlite_ for itself"),
    );
    check(
        "sqlite:x?table=mqtally_DONE",
        &refused("\"mqtally_DONE\" cannot be a table here: it holds the marks of messages that are done"),
    );
    for (typed, why) in [
        ("http:", "names no host"),
        ("http:h/path", "cannot be read"),
        ("http://", "cannot be read"),
        ("https://a b/", "cannot be read"),
        ("https:///path", "cannot be read"),
        ("http://:80", "names no host"),
        ("http://h:0/", "has port 0"),
    ] {
        check(typed, &format!("the webhook's URL {why}; write https://HOST/PATH"));
    }
}

#[test]
fn a_route_is_a_filter_and_a_handler() {
    let check = |typed: &str, filter: &str, handler: &str| {
        let route: Route = typed.parse().unwrap();
        assert_eq!((route.filter.as_str(), route.handler.to_string().as_str()), (filter, handler));
    };
    check("alerts/+=exec:./page.sh", "alerts/+", "exec:./page.sh");
    check("a=b/#=print", "a=b/#", "print");
    check("a=exec:X=1 ./y=print", "a", "exec:X=1 ./y=print");
    check("a=http://h/?x=1", "a", "http://h/…");
}

#[test]
fn what_is_no_route_is_refused_with_a_way_out() {
    let check = |typed: &str, expect: SpecError| assert_eq!(typed.parse::<Route>(), Err(expect), "{typed:?}");
    check("alerts", SpecError::NoRoute("alerts".into()));
    check("", SpecError::NoRoute(String::new()));
    check("alerts=", SpecError::Unknown(String::new()));
    check("alerts=foo:x", SpecError::Unknown("foo".into()));
    check("alerts=sqlite:x", SpecError::NoTable);
    check("=print", SpecError::Filter(String::new(), TopicError::Empty));
    check("a/#/b=print", SpecError::Filter("a/#/b".into(), TopicError::MisplacedHash(2)));
    assert_eq!(Routes::parse(vec!["a=print"; 256], None), Err(SpecError::TooManyRoutes));
}

#[test]
fn the_first_route_that_selects_a_topic_wins_and_the_default_takes_the_rest() {
    let routes = Routes::parse(["a/+=print", "a/#=jsonl:x", "$SYS/#=print"], Some("exec:y")).unwrap();
    let position = |topic| routes.position(topic);
    assert_eq!([position("a/b"), position("a/b/c"), position("a")], [Some(0), Some(1), Some(1)]);
    assert_eq!([position("$SYS/x"), position("b"), position("$other")], [Some(2), Some(3), Some(3)]);
    let without = Routes::parse(["a/+=print"], None).unwrap();
    assert_eq!([without.position("a/b"), without.position("b")], [Some(0), None]);
}

#[test]
fn routes_with_equal_handlers_share_one() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = format!("jsonl:{}", directory.path().join("x").display());
    let (a, b) = (format!("a={jsonl}"), format!("b={jsonl}"));
    let routes = Routes::parse([a.as_str(), b.as_str()], Some("exec:true")).unwrap();
    let handlers = routes.open(&Options::default()).unwrap();
    assert_eq!(handlers.len(), 3);
    assert!(std::sync::Arc::ptr_eq(&handlers[0], &handlers[1]));
}

#[test]
fn print_without_a_printer_does_not_start() {
    assert_eq!(refused("print", &Options::default()), "print has nowhere to print here; use jsonl:FILE");
}

#[tokio::test]
async fn a_typed_function_gets_values_and_the_rest_becomes_dead_letters() {
    #[derive(serde::Deserialize)]
    struct Reading {
        celsius: f64,
    }
    let handler = Handler::typed(|reading: Reading, delivery| async move {
        let error = format!("{} on {}", reading.celsius, delivery.topic);
        Outcome::Retry { after: None, error }
    });
    assert_eq!(handle(&handler, &delivery(1, r#"{"celsius":21.5}"#)).await, "retry: 21.5 on t/1");
    let refused = handle(&handler, &delivery(1, "21.5")).await;
    assert!(refused.starts_with("dead: the payload is not what the handler takes: "), "{refused}");
}
