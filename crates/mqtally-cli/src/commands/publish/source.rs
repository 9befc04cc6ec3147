//! Where payloads come from: one that is repeated, or the lines of standard input.

use std::io::{self, BufRead, Read};
use tokio::sync::mpsc;

/// Payloads that may wait between the reader and the publisher.
const WAITING_MAX: usize = 1_024;
/// Longer lines are refused: they would have to be held in memory whole.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Payloads in order.
pub(super) enum Source {
    Repeat { payload: Vec<u8>, left: u64 },
    Lines(mpsc::Receiver<Line>),
}

/// A line of the input, or what is wrong with it.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) content: Result<Vec<u8>, String>,
}

impl Source {
    pub(super) fn repeat(payload: &[u8], count: u64) -> Source {
        Source::Repeat { payload: payload.to_vec(), left: count }
    }

    /// Reads standard input in a thread of its own, which ends with the program: a read cannot be interrupted.
    pub(super) fn lines(json: bool) -> Source {
        let (lines, lines_out) = mpsc::channel(WAITING_MAX);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            for number in 1.. {
                let (content, last) = match next_line(&mut input, json) {
                    Ok(None) => return,
                    Ok(Some(Ok(line))) if line.is_empty() && json => continue,
                    Ok(Some(content)) => (content, false),
                    Err(error) => (Err(format!("the input cannot be read ({error}) and ends here")), true),
                };
                if lines.blocking_send(Line { number, content }).is_err() || last {
                    return;
                }
            }
        });
        Source::Lines(lines_out)
    }

    /// The next payloads, waiting for the first: at most `limit`, none at the end. Cancel-safe.
    pub(super) async fn next(&mut self, limit: usize) -> Vec<Line> {
        match self {
            Source::Repeat { payload, left } => {
                let take = (*left).min(limit as u64);
                *left -= take;
                (0..take).map(|_| Line { number: 0, content: Ok(payload.clone()) }).collect()
            }
            Source::Lines(lines) => {
                let mut next = Vec::new();
                lines.recv_many(&mut next, limit).await;
                next
            }
        }
    }
}

/// A line without its end, or why it is no message; `None` at the end of the input.
fn next_line(input: &mut impl BufRead, json: bool) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    match input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)? {
        0 => return Ok(None),
        LINE_BYTES_MAX if !line.ends_with(b"\n") => {
            input.skip_until(b'\n')?;
            return Ok(Some(Err(format!("longer than {LINE_BYTES_MAX} bytes"))));
        }
        _ => {}
    }
    if line.ends_with(b"\n") {
        line.truncate(line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 });
    }
    Ok(Some(if json { checked(line) } else { Ok(line) }))
}

fn checked(line: Vec<u8>) -> Result<Vec<u8>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&line) {
        Ok(_) => Ok(line),
        Err(error) => Err(format!("not JSON ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut input: &[u8], json: bool) -> Vec<Result<String, String>> {
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, json).expect("it can be read") {
            lines.push(line.map(|line| String::from_utf8(line).expect("UTF-8")));
        }
        lines
    }

    #[test]
    fn a_line_ends_before_its_line_feed() {
        let expect = ["a", "", "b\r c", "d"].map(|line| Ok(line.to_owned()));
        assert_eq!(read(b"a\n\nb\r c\r\nd", false), expect);
    }

    #[test]
    fn a_line_that_is_no_json_is_told_and_the_rest_goes_on() {
        let lines = read(b"{\"a\":1}\n{\"a\":\n21.5\n", true);
        assert_eq!(lines.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert!(lines[1].as_ref().is_err_and(|error| error.starts_with("not JSON (EOF while parsing")));
    }
}
