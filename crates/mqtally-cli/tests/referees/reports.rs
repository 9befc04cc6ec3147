//! The reports of a broken run, read by programs that are not ours: a browser and a schema validator.

use super::process::mqtally;
use std::path::Path;
use std::process::{Command, Output};
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
    let page = std::fs::read_to_string(directory.path().join("report.html")).expect("the page");
    // The page has no script of its own; this one measures it.
    let measured = directory.path().join("measured.html");
    let script = "<script>document.title = `${document.documentElement.scrollWidth} of ${document.documentElement.clientWidth}`</script></body>";
    std::fs::write(&measured, page.replace("</body>", script)).expect("written");
    for width in [500, 1_280] {
        let output = browser(&measured, width, directory.path());
        let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(dom.contains("BROKEN") || dom.contains(">broken<"), "{dom}{log}");
        let title =
            dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).expect("a title");
        let (content, window) = title.split_once(" of ").expect("measured");
        assert_eq!(content, window, "nothing sticks out at a width of {width}");
        assert!(!log.contains("CONSOLE"), "{log}");
    }
}

fn browser(page: &Path, width: u32, scratch: &Path) -> Output {
    let output = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", scratch.join(width.to_string()).display()))
        .arg(format!("--window-size={width},900"))
        .arg(page)
        .output()
        .expect("chromium runs");
    assert!(output.status.success(), "{output:#?}");
    output
}
