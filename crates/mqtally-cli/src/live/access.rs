//! Who may look at the live view, and whose web pages may act.
//!
//! On loopback everybody on this machine may; elsewhere whoever has the token. It comes once in the page's URL and is
//! kept in a cookie from then on, or comes in an `Authorization` header.
//!
//! A web page of somebody else, opened on this machine, reaches loopback too. It is kept out by its `Origin`, by the
//! browser's `Sec-Fetch-Site`, and, where it has its own name resolve to our address, by the `Host` that it asks for.

use crate::exit::{ExitStatus, Failure};
use mqtally_harness::http::{Answer, Request};
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// Environment variable for the token itself, which no flag takes: flags are seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "MQTALLY_LIVE_TOKEN";
const TOKEN_LEN_MIN: usize = 16;
const TOKEN_LEN_MAX: usize = 256;

/// The token, as it may be given.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TokenArgs {
    /// Read the token of the live view from the first line of this file instead of MQTALLY_LIVE_TOKEN; one is made up
    /// and printed where it is needed (elsewhere than on loopback) and not given
    #[arg(long, value_name = "FILE")]
    live_token_file: Option<PathBuf>,
}

impl TokenArgs {
    fn token(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(file) = &self.live_token_file else {
            let token = std::env::var(TOKEN_VARIABLE).ok();
            return Ok(token.map(|token| (token, TOKEN_VARIABLE.to_owned())));
        };
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        Ok(Some((text.lines().next().unwrap_or_default().to_owned(), file.display().to_string())))
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::io("cannot read the token", file, error, "name a file with the token on its first line")
}

/// Who may look.
#[derive(Debug)]
pub(crate) struct Access {
    /// Without one, everybody on this machine.
    token: Option<Token>,
    /// Cookies know no ports: its name does.
    cookie: String,
}

struct Token {
    text: String,
    /// Nobody else knows it: the page's URL has to be printed with it.
    is_made_up: bool,
}

/// Not even in a log of ours.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Somebody may come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Open,
    /// By the page's URL: this cookie opens it from now on.
    WithToken(String),
}

impl Access {
    /// To what listens at `bound`.
    pub(crate) fn new(bound: SocketAddr, args: &TokenArgs) -> Result<Self, Failure> {
        let cookie = format!("mqtally-live-{}", bound.port());
        let token = match args.token()? {
            Some((text, place)) => Some(Token { text: sound(text, &place)?, is_made_up: false }),
            None if bound.ip().is_loopback() => None,
            None => Some(Token { text: random_hex()?, is_made_up: true }),
        };
        Ok(Self { token, cookie })
    }

    /// What a person opens.
    pub(crate) fn url(&self, bound: SocketAddr) -> String {
        match &self.token {
            Some(Token { text, is_made_up: true }) => format!("http://{bound}/?token={text}"),
            Some(_) => format!("http://{bound}/?token=… (the token that was given)"),
            None => format!("http://{bound}/"),
        }
    }

    /// Whether this request may be answered.
    pub(super) fn check(&self, request: &Request) -> Result<Entry, Answer> {
        let host = request.header("host").ok_or_else(|| forbidden("one Host, please"))?;
        if self.token.is_none() && !names_loopback(host) {
            return Err(forbidden("not by this name; use 127.0.0.1 or localhost"));
        }
        if request.is_from_page() && !request.header("origin").is_some_and(|origin| is_of(origin, host)) {
            return Err(forbidden("not for other web pages"));
        }
        let is_navigation = request.method == "GET" && request.path == "/";
        let site = request.header("sec-fetch-site");
        if !is_navigation && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(forbidden("not for other web pages"));
        }
        self.check_token(request)
    }

    fn check_token(&self, request: &Request) -> Result<Entry, Answer> {
        let Some(token) = &self.token else { return Ok(Entry::Open) };
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let cookies = request.header("cookie").into_iter().flat_map(|value| value.split("; "));
        let kept = cookies.filter_map(|it| it.strip_prefix(&self.cookie)?.strip_prefix('='));
        let shown: Vec<&str> = kept.chain(bearer).collect();
        if shown.iter().any(|it| token.is(it)) {
            return Ok(Entry::Open);
        }
        let asked = request.query.split('&').find_map(|it| it.strip_prefix("token="));
        match asked.filter(|_| request.path == "/") {
            Some(text) if token.is(text) => {
                Ok(Entry::WithToken(format!("{}={text}; HttpOnly; SameSite=Strict; Path=/", self.cookie)))
            }
            None if shown.is_empty() => Err(unauthorized("a token is needed")),
            _ => Err(unauthorized("this token is not the right one")),
        }
    }
}

impl Token {
    /// In a time that tells nothing but its length.
    fn is(&self, other: &str) -> bool {
        self.text.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// A token of somebody else's that can stand in a URL and in a cookie, and is not guessed.
fn sound(text: String, place: &str) -> Result<String, Failure> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
    if plain && (TOKEN_LEN_MIN..=TOKEN_LEN_MAX).contains(&text.len()) {
        return Ok(text);
    }
    let advice = "use 16 to 256 letters, digits, and - _ . ~, such as 'openssl rand -hex 16' prints";
    Err(Failure::usage(
        "the token of the live view is too short, too long or has other characters",
        place,
        advice,
    ))
}

/// 128 bits that nobody can guess.
pub(super) fn random_hex() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let what = format!("the system has no randomness ({error})");
        Failure::new(ExitStatus::Software, what, "live view", "start it again")
    })?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Whether `origin` is that of the page that is served at `host`.
fn is_of(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    authority.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Also read by a person in a browser.
fn unauthorized(why: &str) -> Answer {
    let advice =
        "open the page by the URL that mqtally printed, or with ?token= and the token that it was given";
    Answer::new("401 Unauthorized", format!("{why}; {advice}\n")).with_header("WWW-Authenticate", "Bearer")
}

fn forbidden(why: &str) -> Answer {
    Answer::new("403 Forbidden", format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(token: Option<&str>) -> Access {
        let token = token.map(|text| Token { text: text.to_owned(), is_made_up: true });
        Access { token, cookie: "mqtally-live-80".to_owned() }
    }

    fn check(token: Option<&str>, request: &str, headers: &str) -> Result<Entry, &'static str> {
        let head = format!("{request} HTTP/1.1\r\n{headers}\r\n\r\n");
        access(token).check(&Request::of(&head).expect("a head")).map_err(|answer| &answer.status[..3])
    }

    #[test]
    fn on_loopback_everybody_may_who_asks_for_it_by_its_name() {
        let check = |host: &str, expect| assert_eq!(check(None, "GET /", host), expect, "{host}");
        check("Host: 127.0.0.1:80", Ok(Entry::Open));
        check("host: LOCALHOST:80", Ok(Entry::Open));
        check("Host: [::1]:80", Ok(Entry::Open));
        // A name of theirs that resolves to our address.
        check("Host: evil.example:80", Err("403"));
        check("Host: 127.0.0.1.evil.example", Err("403"));
        check("Host: 192.0.2.1", Err("403"));
        check("Host: ", Err("403"));
        check("Accept: */*", Err("403"));
        check("Host: localhost\r\nHost: evil.example", Err("403"));
    }

    #[test]
    fn other_web_pages_neither_act_nor_watch() {
        let check = |request: &str, headers: &str, expect| {
            let headers = format!("Host: localhost:80\r\n{headers}");
            assert_eq!(check(None, request, &headers), expect, "{request} {headers}");
        };
        check("POST /replay", "Origin: http://localhost:80", Ok(Entry::Open));
        check("POST /replay", "Accept: */*", Ok(Entry::Open));
        for page in ["http://evil.example", "http://localhost:81", "null", "http://localhost:80.evil.example"]
        {
            check("POST /replay", &format!("Origin: {page}"), Err("403"));
            check("GET /events", &format!("Origin: {page}"), Err("403"));
        }
        check("POST /replay", "Origin: http://localhost:80\r\nOrigin: http://evil.example", Err("403"));
        check("GET /events", "Sec-Fetch-Site: cross-site", Err("403"));
        check("GET /events", "Sec-Fetch-Site: same-site", Err("403"));
        check("GET /events", "Sec-Fetch-Site: same-origin", Ok(Entry::Open));
        // A link from elsewhere only opens the page.
        check("GET /", "Sec-Fetch-Site: cross-site", Ok(Entry::Open));
    }

    #[test]
    fn with_a_token_nobody_comes_in_without_it() {
        let check = |request: &str, headers: &str, expect| {
            let headers = format!("Host: plant.example\r\n{headers}");
            assert_eq!(check(Some(TOKEN), request, &headers), expect, "{request} {headers}");
        };
        let cookie = format!("mqtally-live-80={TOKEN}; HttpOnly; SameSite=Strict; Path=/");
        check("GET /", "X: y", Err("401"));
        check("GET /?token=0123456789abcdee", "X: y", Err("401"));
        check("GET /?token=", "X: y", Err("401"));
        check(&format!("GET /?token={}", &TOKEN[1..]), "X: y", Err("401"));
        check(&format!("GET /?token={}", &TOKEN[..15]), "X: y", Err("401"));
        check(&format!("GET /?token={TOKEN}0"), "X: y", Err("401"));
        check(&format!("GET /?token={}", TOKEN.to_uppercase()), "X: y", Err("401"));
        check(&format!("GET /?a=b&token={TOKEN}"), "X: y", Ok(Entry::WithToken(cookie)));
        check(&format!("GET /events?token={TOKEN}"), "X: y", Err("401"));
        check("GET /events", &format!("Cookie: a=b; mqtally-live-80={TOKEN}"), Ok(Entry::Open));
        check("GET /events", &format!("Cookie: mqtally-live-81={TOKEN}"), Err("401"));
        check("POST /replay", &format!("Authorization: Bearer {TOKEN}"), Ok(Entry::Open));
        check("POST /replay", "Authorization: Bearer no", Err("401"));
        check("POST /replay", &format!("Cookie: mqtally-live-80={TOKEN}\r\nOrigin: http://evil"), Err("403"));
    }

    #[test]
    fn a_token_is_needed_elsewhere_than_on_loopback_and_is_long_enough() {
        let at =
            |place: &str| Access::new(place.parse().unwrap(), &TokenArgs { live_token_file: None }).unwrap();
        assert!(at("127.0.0.1:80").token.is_none() && at("[::1]:80").token.is_none());
        let [one, other] = ["0.0.0.0:80", "192.0.2.1:80"].map(at);
        let url = one.url("0.0.0.0:80".parse().unwrap());
        assert_eq!(url.len(), "http://0.0.0.0:80/?token=".len() + 32, "{url}");
        assert!(!other.token.unwrap().is(&one.token.unwrap().text), "each has its own");
        for text in ["short", "0123456789abcde;", "0123456789 abcdef"] {
            assert!(sound(text.to_owned(), "x").is_err(), "{text}");
        }
    }
}
