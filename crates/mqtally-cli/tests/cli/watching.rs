//! `mqtally test --live`: a run is watched over HTTP.

use crate::program::Program;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

fn get(at: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").expect("it reads");
    stream
}

#[test]
fn who_watches_a_run_gets_its_verdict_and_the_program_ends() {
    let program = Program::new();
    let mut command = program.command("test qos --protocol 5 --messages 20 --live=0");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let at = lines.find_map(|line| Some(line.split_once("live view on http://")?.1.to_owned()));
    let at = at.as_deref().and_then(|at| at.strip_suffix('/')).expect("an address").to_owned();
    assert!(at.starts_with("127.0.0.1:"), "{at}");
    let mut page = String::new();
    get(&at, "/").read_to_string(&mut page).expect("UTF-8");
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("<!DOCTYPE html>"), "{page}");

    let mut stream = String::new();
    get(&at, "/events").read_to_string(&mut stream).expect("it ends by itself");
    let views: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|view| serde_json::from_str(view).expect("JSON"))
        .collect();
    let last = views.last().expect("a view");
    assert_eq!(last["state"]["word"], "kept", "{last:#}");
    assert!(last["over"].as_str().is_some_and(|over| over.starts_with("The run is over")), "{last:#}");
    assert!(views.iter().rev().skip(1).all(|view| view["over"].is_null()));
    let table = |id: &str| {
        let tables = last["tables"].as_array().expect("tables").iter();
        tables.clone().find(|table| table["id"] == id).expect("the table").clone()
    };
    assert_eq!(table("parts")["rows"][0]["cells"][2], "done");
    assert!(!table("promises")["rows"].as_array().expect("rows").is_empty());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_place_that_is_none_or_is_taken_is_found_before_the_run() {
    let ended = Program::new().run("test --live qos");
    assert_eq!(ended.status, 64);
    assert!(ended.stderr.contains("a scenario stands before --live"), "{}", ended.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let ended = Program::new().run(&format!("test --live {}", taken.local_addr().expect("bound")));
    assert_eq!(ended.status, 69);
    assert!(ended.stderr.contains("choose another --live"), "{}", ended.stderr);
}
