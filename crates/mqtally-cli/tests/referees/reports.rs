//! The reports of a broken run, read by programs that are not ours: a browser and a schema validator.

use super::laws::{DISORDER, FAINT_TEXT};
use super::process::mqtally;
use super::webdriver::Browser;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A run in which promises are broken: a volatile broker held to keeping everything.
fn broken_run() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = format!(
        "{} broker --config /dev/null --volatile --listen 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_mqtally")
    );
    let mut command =
        mqtally(&["test", "restart", "--protocol", "5", "--messages", "50", "--profile", "durable"]);
    command.args(["--broker-cmd", &broker, "--html", "report.html", "--junit", "report.xml"]);
    let output = command.current_dir(&directory).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    directory
}

#[test]
fn the_junit_report_is_valid() {
    let directory = broken_run();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/referees/junit.xsd");
    let output = Command::new("xmllint")
        .args(["--noout", "--schema"])
        .arg(schema)
        .arg(directory.path().join("report.xml"))
        .output()
        .expect("xmllint runs");
    assert!(output.status.success(), "{output:#?}");
}

#[test]
fn a_browser_shows_the_page_at_every_width_and_complains_of_nothing() {
    let directory = broken_run();
    let browser = Browser::start(directory.path());
    browser.open(&format!("file://{}", directory.path().join("report.html").display()));
    browser.wait_for("document.querySelector('.verdict strong').textContent === 'broken'");
    for (width, scheme) in [(400, "light"), (400, "dark"), (1_280, "light"), (1_280, "dark")] {
        browser.look(width, scheme);
        browser.wait_for(&format!("window.innerWidth === {width}"));
        browser.wait_for("document.documentElement.scrollWidth === document.documentElement.clientWidth");
        assert_eq!(
            browser.script(FAINT_TEXT),
            serde_json::json!([]),
            "{width} {scheme}: too little contrast"
        );
        browser.screenshot(&format!("report-{width}-{scheme}"));
    }
    assert_eq!(browser.script(DISORDER), json!([]));
    assert_eq!(browser.log(), Vec::<String>::new());
}
