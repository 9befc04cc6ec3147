//! The page itself: a frame that its script fills from the views. It needs nothing from elsewhere, and may not.

use super::access::{Entry, random_hex};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use mqtally_harness::http::Answer;

const HTML: &str = "text/html; charset=utf-8";
/// The report's, so that both look alike.
const STYLE: &str = include_str!("../report/html/style.css");
const OWN_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn answer(entry: Entry) -> Answer {
    let Ok(nonce) = random_hex() else {
        return Answer::new("503 Service Unavailable", "the system has no randomness\n");
    };
    let answer = Answer::new("200 OK", render(&nonce).into_string())
        .with_kind(HTML)
        .with_header("Content-Security-Policy", policy(&nonce))
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cross-Origin-Resource-Policy", "same-origin")
        .with_header("Cache-Control", "no-store");
    match entry {
        Entry::Open => answer,
        Entry::WithToken(cookie) => answer.with_header("Set-Cookie", cookie),
    }
}

/// Its own style and script, by their nonce, and its own server: nothing else, and nobody frames it.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn render(nonce: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "mqtally live" }
                // Or the browser asks for /favicon.ico.
                link rel="icon" href="data:,";
                style nonce=(nonce) { (PreEscaped(STYLE)) (PreEscaped(OWN_STYLE)) }
            }
            body {
                a .skip href="#figures" { "Skip to the figures" }
                header {
                    h1 #title { "mqtally live" }
                    section #state .verdict .not-exercised aria-label="State" {
                        strong #word { "connecting" }
                        p #sentence { "Waiting for the first figures." }
                        p #over hidden {}
                    }
                    // What a screen reader says by itself: changes of state and answers to clicks, never the rates.
                    p #heard .hidden role="status" aria-live="polite" {}
                    p #said .said role="status" aria-live="polite" {}
                    noscript { p { "This page needs JavaScript; " a href="view.json" { "view.json" } " has the same as text." } }
                    dl #facts .facts {}
                }
                main {
                    section aria-labelledby="figures-name" {
                        h2 #figures-name { "Figures" }
                        dl #figures .tally tabindex="-1" {}
                    }
                    section aria-labelledby="plots-name" {
                        h2 #plots-name { "Over time" }
                        div #plots {}
                    }
                    div #tables {}
                }
                footer { p {
                    "Made by mqtally " (env!("CARGO_PKG_VERSION")) ". What this page shows is in "
                    a href="view.json" { "view.json" } "."
                } }
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_runs_nothing_but_its_own() {
        let page = render("0123").into_string();
        // The namespace of SVG is a name, no place.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for outside in
            ["http:", "https:", "@import", "url(", " src=", " onclick", " style=", "innerHTML", "eval("]
        {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("nonce=\"0123\"").count(), 2);
        // A later `</script>` or `</style>` in what was included would end it early.
        assert_eq!((page.matches("</script").count(), page.matches("</style").count()), (1, 1));
        assert!(policy("0123").starts_with("default-src 'none'"));
    }
}
