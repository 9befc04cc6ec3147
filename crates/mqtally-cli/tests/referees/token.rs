//! The live pages in a browser where they need a token: elsewhere than on loopback.

use super::bench::{Bench, Running, eventually, message, mqtally};
use super::live::page;
use super::webdriver::Browser;
use std::fs;
use std::process::Command;

/// What the browser shows of a page that does not let it in.
fn refused(browser: &Browser, url: &str, expect: &str) {
    browser.open(url);
    browser.wait_for(&format!("document.body.innerText.includes({expect:?})"));
    assert_eq!(browser.script("return document.scripts.length;"), 0, "{url} shows more than that");
    browser.log();
}

const NEEDED: &str = "a token is needed; open the page by the URL that mqtally printed";
const WRONG: &str = "this token is not the right one; open the page by the URL that mqtally printed";

/// The printed URL without its token, and the token.
fn parts(url: &str) -> (&str, &str) {
    let (bare, token) = url.split_once("?token=").expect("a token");
    assert_eq!(token.len(), 32, "{url}");
    (bare, token)
}

#[test]
fn a_subscriber_is_watched_and_replays_with_the_token_and_not_without() {
    let bench = Bench::new();
    let handler = ["--handler", "exec:test -e repaired"];
    let running = bench.sub("-t # --listen 0.0.0.0:0 --retries 0", &handler);
    bench.publish(vec![message("valve", "one"), message("valve", "two")]);
    eventually("both are dead", || bench.count("SELECT count(*) FROM dead") == 2);
    let url = page(&running);
    let (bare, token) = parts(&url);

    let browser = Browser::start(bench.directory.path());
    refused(&browser, bare, NEEDED);
    refused(&browser, &format!("{bare}?token="), WRONG);
    refused(&browser, &format!("{bare}?token={}", token.replace(|_| true, "0")), WRONG);
    refused(&browser, &format!("{bare}view.json?token={token}"), NEEDED);

    browser.open(&url);
    browser.wait_for("document.querySelectorAll('#tables button').length === 2");
    // The token stands neither in the address nor where a script could read it.
    assert_eq!(browser.script("return location.href + document.cookie;"), bare);
    fs::write(bench.path("repaired"), "").expect("a file");
    browser.click("tr[data-key='1'] button");
    eventually("it was processed", || bench.count("SELECT processed FROM tally") == 1);
    browser.wait_for("document.querySelectorAll('#tables button').length === 1");
    // The cookie lets it in from now on.
    browser.open(bare);
    browser.wait_for("document.querySelectorAll('#tables button').length === 1");
    assert_eq!(browser.log(), Vec::<String>::new());

    // One that is started again has a new token: the page that is open says so, and so does the address.
    let port = bare.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    running.signal("KILL");
    running.ended();
    browser.wait_for("document.getElementById('word').textContent === 'not connected'");
    let again = bench.sub(&format!("-t # --listen 0.0.0.0:{port} --retries 0"), &handler);
    browser.wait_for("document.getElementById('sentence').textContent.includes('does not let this page in')");
    browser.click("tr[data-key='2'] button");
    browser.wait_for(&format!("document.getElementById('said').textContent.includes({WRONG:?})"));
    assert_eq!(bench.count("SELECT processed FROM tally"), 1, "nothing was replayed");
    refused(&browser, bare, WRONG);
    browser.open(&page(&again));
    browser.wait_for("document.querySelectorAll('#tables button').length === 1");
    browser.click("tr[data-key='2'] button");
    eventually("it was processed", || bench.count("SELECT processed FROM tally") == 2);
    assert_eq!(again.terminate().code, Some(0));
    browser.wait_for("document.getElementById('word').textContent === 'stopped'");
}

/// Longer than any browser takes to look; it is ended when it was looked at.
const LONG: &str = "name = \"long\"\nduration = \"1h\"\n\
    [[streams]]\nname = \"state\"\ntopic = \"state\"\nqos = 1\nevery = \"200ms\"\nneeds = [\"must-arrive\"]\n\
    [[subscribers]]\nname = \"room\"\nfilters = [\"state@1\"]\n";

fn watched(command: &mut Command) -> Running {
    Running::start(command.args(["test", "long.toml", "--protocol", "5", "--live", "0.0.0.0:0"]))
}

#[test]
fn a_run_is_watched_with_the_token_and_not_without() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("long.toml"), LONG).expect("a file");
    let browser = Browser::start(directory.path());
    let running = watched(&mut mqtally(directory.path()));
    let url = page(&running);
    let (bare, token) = parts(&url);
    refused(&browser, bare, NEEDED);
    refused(&browser, &format!("{bare}?token={}", &token[1..]), WRONG);
    browser.open(&url);
    browser.wait_for("document.getElementById('sentence').textContent.includes('long on MQTT 5')");
    browser.wait_for("document.querySelectorAll('#plots polyline.curve').length >= 2");
    assert_eq!(browser.script("return location.href;"), bare);
    assert_eq!(running.terminate().code, Some(130));
    browser.wait_for("document.getElementById('over').textContent.startsWith('The run is over')");
    assert_eq!(browser.log(), Vec::<String>::new());

    // A token that was given is not printed: whoever gave it knows it.
    let given = "0123456789abcdef-given";
    let running = watched(mqtally(directory.path()).env("MQTALLY_LIVE_TOKEN", given));
    let bare = page(&running).split_once('?').expect("a query").0.to_owned();
    assert!(!running.said().contains(given));
    refused(&browser, &bare, NEEDED);
    browser.open(&format!("{bare}?token={given}"));
    browser.wait_for("document.getElementById('sentence').textContent.includes('long on MQTT 5')");
    assert_eq!(running.terminate().code, Some(130));
}
