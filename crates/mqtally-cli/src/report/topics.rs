//! Topics and client ids as a table shows them: without what all of them begin with.

use mqtally_history::report::Report;

/// The levels that the topics of all streams and messages begin with, with the `/` behind them; empty when there
/// are none. The last level of a topic is never one of them. Topics of the server's own, such as `$SYS`, share nothing.
pub(super) fn shared(report: &Report) -> &str {
    let streams = report.streams.iter().map(|stream| stream.topic.as_str());
    let topics = streams.chain(report.messages.iter().map(|message| message.topic.as_str()));
    shared_parts(topics.filter(|topic| !topic.starts_with('$')), '/')
}

/// What the client ids of all sessions begin with, up to a `-`.
pub(super) fn shared_by_clients(report: &Report) -> &str {
    shared_parts(report.sessions.iter().map(|session| session.client_id.as_str()), '-')
}

fn shared_parts<'a>(mut names: impl Iterator<Item = &'a str>, separator: char) -> &'a str {
    let parent = |name: &'a str| &name[..name.rfind(separator).map_or(0, |last| last + 1)];
    let first = names.next().unwrap_or_default();
    names.fold(parent(first), |shared, name| {
        let same = shared.bytes().zip(parent(name).bytes()).take_while(|(a, b)| a == b).count();
        // Both are equal up to here, so this cuts `shared` behind a whole part.
        let whole = shared.as_bytes()[..same].iter().rposition(|byte| char::from(*byte) == separator);
        &shared[..whole.map_or(0, |last| last + 1)]
    })
}

/// The name without the `shared` parts.
pub(super) fn below<'a>(name: &'a str, shared: &str) -> &'a str {
    name.strip_prefix(shared).unwrap_or(name)
}

/// The in-flight window that a stream's topic tells: 10 where one of its levels is `window-10`.
pub(super) fn window(topic: &str) -> Option<u32> {
    topic.split('/').find_map(|level| level.strip_prefix("window-")?.parse().ok())
}

/// A filter for two topics or filters: `+` for the levels that differ, `#` from where only one goes on.
pub(super) fn covering(a: &str, b: &str) -> String {
    let mut levels = Vec::new();
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => levels.push(a),
            (Some("#"), _) | (_, Some("#")) | (Some(_), None) | (None, Some(_)) => {
                let known = levels.iter().rposition(|level| *level != "+").map_or(0, |last| last + 1);
                levels.truncate(known);
                levels.push("#");
                break;
            }
            (Some(_), Some(_)) => levels.push("+"),
        }
    }
    levels.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn levels_that_all_topics_share_are_left_out() {
        let check = |topics: &[&str], expect: &str| {
            let mut report = fixture::kept();
            report.messages.clear();
            let stream = report.streams[0].clone();
            let with =
                |topic: &&str| mqtally_history::report::Stream { topic: (*topic).into(), ..stream.clone() };
            report.streams = topics.iter().map(with).collect();
            assert_eq!(shared(&report), expect, "{topics:?}");
        };
        check(&["run/7/a", "run/7/b/c"], "run/7/");
        check(&["run/71/a", "run/72/a"], "run/");
        check(&["run/温/a", "run/度/a"], "run/");
        check(&["a", "a"], "");
        check(&["run/7/a", "$SYS/run/7", "run/7/b"], "run/7/");
        check(&["a/b"], "a/");
        check(&["a/b", "c"], "");
        check(&[], "");
    }

    #[test]
    fn a_filter_covers_the_topics_that_were_folded() {
        let check = |a: &str, b: &str, expect: &str| assert_eq!(covering(a, b), expect, "{a} {b}");
        check("a/1", "a/2", "a/+");
        check("a/+", "a/2", "a/+");
        check("a/b", "a/b/c", "a/b/#");
        check("a/b/c", "x/y", "#");
        check("a/b/c", "a/d", "a/#");
        check("a/#", "a/b/c", "a/#");
        check("a/b", "a/b", "a/b");
    }
}
