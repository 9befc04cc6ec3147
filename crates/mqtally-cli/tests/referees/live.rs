//! The live pages in a browser: what they show, and a real click on replay.

use super::bench::{Bench, Running, eventually, message, mqtally};
use super::laws::{DISORDER, FAINT_TEXT};
use super::webdriver::Browser;
use serde_json::json;
use std::fs;

/// The page's URL, as the program printed it.
pub(crate) fn page(running: &Running) -> String {
    running.says("live view on ");
    let said = running.said();
    let rest = said.split_once("live view on ").expect("an address").1;
    rest.split_whitespace().next().expect("a URL").to_owned()
}

/// Nothing sticks out or is faint, in light and dark, narrow and wide; all has a name and an order.
fn look_at(browser: &Browser, name: &str) {
    for (width, scheme) in [(400, "light"), (400, "dark"), (1_280, "light"), (1_280, "dark")] {
        browser.look(width, scheme);
        // The next view draws the curves at the new width.
        browser.wait_for(&format!("window.innerWidth === {width}"));
        browser.wait_for("[...document.querySelectorAll('svg.plot')].every((it) => it.viewBox.baseVal.width === Math.max(it.clientWidth, 200))");
        browser.wait_for("document.documentElement.scrollWidth === document.documentElement.clientWidth");
        assert_eq!(browser.script(FAINT_TEXT), json!([]), "{width} {scheme}: too little contrast");
        browser.screenshot(&format!("{name}-{width}-{scheme}"));
    }
    assert_eq!(browser.script(DISORDER), json!([]));
}

#[test]
fn a_click_on_replay_has_a_dead_letter_processed_again() {
    let bench = Bench::new();
    // Refuses everything until somebody repairs it.
    fs::write(
        bench.path("handler.sh"),
        "test -e repaired || { echo 'valve unknown' >&2; exit 1; }; cat >> done; echo >> done",
    )
    .expect("a file");
    let running = bench.sub(
        "-t # --listen 127.0.0.1:0 --retries 0 --handler-timeout 60s",
        &["--handler", "exec:sh handler.sh"],
    );
    let hostile = "<b onmouseover=alert(1)>21.5</b>";
    let payloads = ["{\"valve\":\"V-101\",\"open\":true}", "{\"valve\":\"V-102\",\"open\":false}", hostile];
    bench.publish(payloads.map(|payload| message("actuators/valve/control", payload)).to_vec());
    eventually("all are dead", || bench.count("SELECT count(*) FROM dead") == 3);

    let browser = Browser::start(bench.directory.path());
    browser.open(&page(&running));
    browser.wait_for("document.querySelectorAll('#tables button').length === 3");
    browser.wait_for("document.getElementById('word').textContent === 'subscribed'");
    browser.wait_for("document.body.textContent.includes('<b onmouseover=alert(1)>21.5</b>')");
    look_at(&browser, "sub");

    fs::write(bench.path("repaired"), "").expect("a file");
    browser.click("tr[data-key='1'] button");
    eventually("it was processed", || bench.text("done") == format!("{}\n", payloads[0]));
    browser.wait_for("document.querySelectorAll('#tables button').length === 2");
    browser.wait_for("document.getElementById('said').textContent === 'Dead letter 1 is replayed.'");

    // The same by keyboard; the focus goes on to what is left.
    browser.script("document.querySelector(\"tr[data-key='2'] button\").focus();");
    browser.press("\u{e007}");
    eventually("it was processed", || bench.text("done").lines().count() == 2);
    browser.wait_for("document.activeElement === document.querySelector(\"tr[data-key='3'] button\")");
    browser.press("\u{e00d}");
    eventually("all were processed", || bench.text("done").ends_with(&format!("{hostile}\n")));
    browser.wait_for("document.querySelectorAll('#tables button').length === 0");
    browser.wait_for("document.getElementById('figures').innerText.includes('3 replayed')");
    assert_eq!(browser.log(), Vec::<String>::new());

    assert_eq!(running.terminate().code, Some(0));
    browser.wait_for("document.getElementById('word').textContent === 'stopped'");
    browser.wait_for("!document.getElementById('over').hidden");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_run_is_watched_from_its_beginning_to_its_verdict() {
    let directory = tempfile::tempdir().expect("a directory");
    // A volatile broker held to keeping everything: something is found.
    let broker = format!(
        "{} broker --config /dev/null --volatile --listen 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_mqtally")
    );
    let browser = Browser::start(directory.path());
    let mut command = mqtally(directory.path());
    command.args(["test", "qos", "restart", "--protocol", "5", "--messages", "500", "--seed", "42"]);
    command.args(["--profile", "durable", "--broker-cmd", &broker, "--live"]);
    let running = Running::start(&mut command);
    browser.open(&page(&running));
    // Which part it is depends on how soon the browser is there.
    browser.wait_for("/, part [12] of 2/.test(document.getElementById('sentence').textContent)");
    browser.wait_for("document.querySelectorAll('#plots polyline.curve').length >= 6");
    browser.wait_for("document.getElementById('word').textContent === 'broken'");
    browser.wait_for("document.getElementById('over').textContent.startsWith('The run is over')");
    let ended = running.ended();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    // The page stays as it was, although nobody serves it any more.
    browser.wait_for("document.querySelector('[aria-labelledby=findings-name] tbody tr')");
    browser.wait_for("document.querySelector(\"[aria-labelledby=parts-name] tr[data-key='qos 5.0']\").innerText.includes('done')");
    browser.wait_for("document.querySelector(\"[aria-labelledby=promises-name] tr[data-key='S2']\").innerText.includes('broken')");
    browser.wait_for("document.querySelector(\"[aria-labelledby=faults-name] tr[data-key='kill-broker']\")");
    look_at(&browser, "test");
    assert_eq!(browser.log(), Vec::<String>::new());
}
