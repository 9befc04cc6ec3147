//! `mqtally proxy` between `mqtally pub` and `mqtally broker`, each a process of its own.

use crate::program::Program;
use crate::publishing::Broker;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The proxy; killed when dropped.
struct Proxy {
    child: Child,
    address: String,
    /// Where it takes rules: host and port.
    api: String,
}

impl Proxy {
    fn start(program: &Program, broker: &Broker, arguments: &[&str]) -> Self {
        let upstream = format!("mqtt://{}", broker.address);
        let mut command = program.command("proxy --listen 127.0.0.1:0 --api --log packets.ndjson --upstream");
        let command = command.arg(upstream).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut line = || lines.next().expect("a line").expect("UTF-8");
        let (address, api) = (line(), line().trim_start_matches("http://").to_owned());
        Self { child, address, api }
    }

    /// The body of the answer, behind its status line.
    fn ask(&self, method: &str, path: &str, body: &str, headers: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.api).expect("it listens");
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).expect("a status");
        (status.to_owned(), body.trim().to_owned())
    }

    fn publish(&self, program: &Program, arguments: &str) -> i32 {
        program.run(&format!("pub --broker mqtt://{} {arguments}", self.address)).status
    }

    fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_publisher_gets_through_a_cut_and_the_log_tells_of_it() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let proxy = Proxy::start(&program, &broker, &["--rule", "cut after c2s PUBLISH 3 rst"]);
    assert_eq!(proxy.publish(&program, "-t t -q 2 -m hello --count 5"), 0, "it connects again and goes on");
    assert_eq!(proxy.terminate(), Some(0));

    let log = std::fs::read_to_string(program.directory().join("packets.ndjson")).expect("a log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let strike = lines.iter().find(|line| line["event"] == "strike").expect("a strike");
    assert_eq!(
        (&strike["did"], &strike["text"]),
        (&"cut-after".into(), &"cut rst after c2s PUBLISH 3".into())
    );
    let cut = lines.iter().filter(|line| line["did"] == "cut-after" && line["event"] == "packet");
    let cut: Vec<_> = cut.map(|line| (&line["packet"], &line["topic"], &line["qos"])).collect();
    assert_eq!(cut, [(&"PUBLISH".into(), &"t".into(), &2.into())]);
    let connects = lines.iter().filter(|line| line["packet"] == "CONNECT").map(|line| &line["connection"]);
    assert_eq!(connects.collect::<Vec<_>>(), [&1, &2]);
}

#[test]
fn rules_come_and_go_over_http() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let proxy = Proxy::start(&program, &broker, &[]);
    let check = |method: &str, path: &str, body: &str, status: &str, expect: &str| {
        let answer = proxy.ask(method, path, body, "");
        assert_eq!((answer.0.as_str(), answer.1.as_str()), (status, expect), "{method} {path} {body}");
    };
    check("GET", "/rules", "", "200", "[]");
    let cut = r#"{"id":1,"rule":"cut fin before s2c PUBACK"}"#;
    check("POST", "/rules", r#"{"rule":"cut before s2c PUBACK"}"#, "201", cut);
    let nearest = r#"{"error":"unknown packet 'PUBAK' at column 16; did you mean 'PUBACK'?"}"#;
    check("POST", "/rules", r#"{"rule":"cut before s2c PUBAK"}"#, "400", nearest);
    assert_eq!(proxy.publish(&program, "-t t -q 1 -m hello"), 0);
    let listed = r#"[{"id":1,"rule":"cut fin before s2c PUBACK","spent":true,"strikes":1}]"#;
    check("GET", "/rules", "", "200", listed);
    check("DELETE", "/rules/1", "", "200", cut);
    check("DELETE", "/rules/1", "", "404", r#"{"error":"there is no such rule"}"#);
    check("POST", "/cut", "", "200", r#"{"cut":0}"#);
    check("POST", "/cut", r#"{"client":"a","how":"rst"}"#, "200", r#"{"cut":0}"#);
    check("GET", "/links", "", "200", "[]");
    check("PUT", "/rules", "", "405", "only GET, POST");
    let (status, log) = proxy.ask("GET", "/log", "", "");
    assert_eq!(status, "200");
    assert!(log.lines().any(|line| line.contains(r#""did":"cut-before""#)), "{log}");
    assert_eq!(proxy.ask("GET", "/rules", "", "Origin: http://example.org\r\n").0, "403");
}

#[test]
fn what_makes_no_sense_is_told_in_one_line() {
    let program = Program::new();
    let check = |arguments: &[&str], expect: &str| {
        let output = program.command("proxy --listen 127.0.0.1:0").args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(64), 1), "{said}");
        assert!(said.contains(expect), "{said}");
    };
    check(&["--rule", "cut aftr c2s PUBREL"], "unknown word 'aftr' at column 5; did you mean 'after'?");
    check(
        &["--upstream", "mqtts://localhost"],
        "plain TCP only: mqtts://localhost; name it as mqtt://HOST:PORT",
    );
    check(&["--upstream", "mqtt://ann:secret@localhost"], "mqtt://ann:***@localhost");
}
