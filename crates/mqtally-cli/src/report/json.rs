//! The JSON report: `mqtally.report/1`, for programs.

use mqtally_history::report::Report;

/// The report as one object on indented lines.
pub(crate) fn render(report: &Report) -> Vec<u8> {
    // A report holds strings, numbers and lists of them: nothing that could fail to be JSON.
    let mut bytes = serde_json::to_vec_pretty(report).expect("a report is always JSON");
    bytes.push(b'\n');
    bytes
}
