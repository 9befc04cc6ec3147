//! Rules over HTTP.

use super::log::PacketLog;
use super::parse_rule;
use mqtally_harness::http::{Answer, Request};
use mqtally_harness::proxy::{Ending, Listed, Peer, Proxy, RuleId, Scope};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRule {
    rule: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Cut {
    client: Option<String>,
    connection: Option<u32>,
    #[serde(default)]
    how: How,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Fin,
    Rst,
}

/// Answers for this proxy.
pub(super) fn answers(
    proxy: Arc<Proxy>,
    log: Arc<PacketLog>,
) -> impl Fn(Request) -> std::future::Ready<Answer> + Clone + Send + 'static {
    move |request| std::future::ready(answer(&request, &proxy, &log))
}

fn answer(request: &Request, proxy: &Proxy, log: &PacketLog) -> Answer {
    // Any page that somebody opens in a browser on this machine could reach a loopback address.
    if request.is_from_page() {
        return Answer::new("403 Forbidden", "not for web pages\n");
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/rules") => ok(&proxy.rules().iter().map(rule_object).collect::<Vec<_>>()),
        ("POST", "/rules") => add(&request.body, proxy),
        ("POST", "/cut") => cut(&request.body, proxy),
        ("GET", "/links") => ok(&proxy.links().iter().map(link_object).collect::<Vec<_>>()),
        ("GET", "/log") => Answer::new("200 OK", log.recent()).with_kind(NDJSON),
        ("DELETE", path) if path.starts_with("/rules/") => remove(path, proxy),
        (_, "/rules") => Answer::wrong_method("GET, POST"),
        (_, "/links" | "/log") => Answer::wrong_method("GET"),
        (_, "/cut") => Answer::wrong_method("POST"),
        (_, path) if path.starts_with("/rules/") => Answer::wrong_method("DELETE"),
        _ => Answer::new("404 Not Found", "there are /rules, /rules/ID, /cut, /links and /log\n"),
    }
}

fn add(body: &str, proxy: &Proxy) -> Answer {
    let rule = serde_json::from_str::<NewRule>(body).map_err(|error| error.to_string());
    let added = rule.and_then(|new| parse_rule(&new.rule)).and_then(|rule| {
        let text = rule.to_string();
        proxy.add(rule).map(|id| (id, text)).map_err(|error| error.to_string())
    });
    match added {
        Ok((id, text)) => answer_json("201 Created", &json!({ "id": id.0, "rule": text })),
        Err(problem) => bad(&problem),
    }
}

fn remove(path: &str, proxy: &Proxy) -> Answer {
    let id = path.trim_start_matches("/rules/").parse().ok().map(RuleId);
    match id.and_then(|id| Some((id, proxy.remove(id)?))) {
        Some((id, rule)) => ok(&json!({ "id": id.0, "rule": rule.to_string() })),
        None => answer_json("404 Not Found", &json!({ "error": "there is no such rule" })),
    }
}

fn cut(body: &str, proxy: &Proxy) -> Answer {
    let asked = if body.trim().is_empty() { Ok(Cut::default()) } else { serde_json::from_str(body) };
    match asked {
        Ok(Cut { client, connection, how }) => {
            let ending = match how {
                How::Fin => Ending::Fin,
                How::Rst => Ending::Rst,
            };
            let count = proxy.cut(&Scope { client, connection, ..Scope::default() }, ending);
            ok(&json!({ "cut": count }))
        }
        Err(error) => bad(&error.to_string()),
    }
}

fn rule_object(listed: &Listed) -> serde_json::Value {
    let Listed { id, rule, strikes, is_spent } = listed;
    json!({ "id": id.0, "rule": rule.to_string(), "strikes": strikes, "spent": is_spent })
}

fn link_object(peer: &Peer) -> serde_json::Value {
    json!({ "link": peer.link, "client": peer.client.as_deref(), "connection": peer.connection })
}

fn bad(problem: &str) -> Answer {
    answer_json("400 Bad Request", &json!({ "error": problem }))
}

fn ok(value: &impl Serialize) -> Answer {
    answer_json("200 OK", value)
}

fn answer_json(status: &'static str, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).unwrap_or_default() + "\n";
    Answer::new(status, body).with_kind(JSON)
}
