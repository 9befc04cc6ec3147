//! The live view: one page that shows a run, or a subscriber, as it goes.
//!
//! - [`View`]: all that the page shows, in one struct; the page adds nothing to it. **Start here.**
//! - [`Hub`]: has the latest view and answers for it over HTTP.
//! - [`Access`]: who may look, and whose pages may act.
//! - [`Pace`]: rates out of counters, and latencies, over the last minutes.
//!
//! Whoever watches gets the latest view each time it can take one. There is no queue, so a slow reader costs nobody
//! anything; how many may watch has a bound ([`http`](mqtally_harness::http)).

mod access;
mod pace;
mod page;
mod view;

pub(crate) use access::{Access, TokenArgs};
pub(crate) use pace::{Pace, Window};
pub(crate) use view::{Column, Curve, Figure, Plot, Row, State, Table, Tone, View};

use crate::exit::{ExitStatus, Failure};
use mqtally_harness::http::{Answer, Event, Request};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const JSON: &str = "application/json";
/// How long those who watch have to take the last view.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Where to serve, as it is typed: whoever wants it to be seen from elsewhere says so.
pub(crate) fn place(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse())
        .map_err(|_| format!("'{text}' is no place to listen; write PORT, or ADDR:PORT such as 0.0.0.0:9464"))
}

/// Listens where `flag` says.
pub(crate) async fn listen(address: SocketAddr, flag: &str) -> Result<(SocketAddr, TcpListener), Failure> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    listener.map_err(|error| {
        let what = format!("cannot listen ({error})");
        let advice = format!("stop what listens there, or choose another {flag}; port 0 takes a free one");
        Failure::new(ExitStatus::Unavailable, what, address.to_string(), advice)
    })
}

/// There is something else.
pub(crate) fn not_found(there_are: &str) -> Answer {
    Answer::new("404 Not Found", format!("there are {there_are}\n"))
}

/// Has the latest view, for everybody who watches.
#[derive(Debug)]
pub(crate) struct Hub {
    latest: watch::Sender<Event>,
    access: Access,
}

impl Hub {
    pub(crate) fn new(access: Access, first: &View) -> Arc<Self> {
        Arc::new(Self { latest: watch::Sender::new(event(first, false)), access })
    }

    /// Somebody watches: what costs something to find out is worth it.
    pub(crate) fn is_watched(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    pub(crate) fn show(&self, view: &View) {
        self.latest.send_replace(event(view, false));
    }

    /// Shows the last view, and waits for a moment until everybody who watches has it.
    pub(crate) async fn end(&self, view: &View) {
        self.latest.send_replace(event(view, true));
        drop(tokio::time::timeout(FAREWELL_MAX, self.latest.closed()).await);
    }

    /// Answers for the page. What else it may ask for is `act`'s, which is called for those who may only.
    pub(crate) async fn answer<F>(&self, request: Request, act: impl FnOnce(Request) -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        match self.access.check(&request) {
            Err(refusal) => refusal,
            Ok(entry) => match (request.method.as_str(), request.path.as_str()) {
                ("GET" | "HEAD", "/") => page::answer(entry),
                ("GET" | "HEAD", "/events") => Answer::streaming(self.latest.subscribe()),
                ("GET" | "HEAD", "/view.json") => self.view(),
                (_, "/" | "/events" | "/view.json") => Answer::wrong_method("GET, HEAD"),
                _ => act(request).await,
            },
        }
    }

    fn view(&self) -> Answer {
        let data = self.latest.borrow().data.to_string();
        Answer::new("200 OK", data + "\n").with_kind(JSON).with_header("Cache-Control", "no-store")
    }
}

fn event(view: &View, is_last: bool) -> Event {
    // Without line ends: those within texts are escaped.
    Event { data: serde_json::to_string(view).unwrap_or_default().into(), is_last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_those_who_watch_and_not_for_ever() {
        let access = |text: &str| Access::new(text.parse().unwrap(), &TokenArgs::default()).unwrap();
        let hub = Hub::new(access("127.0.0.1:80"), &View::default());
        let mut watching = hub.latest.subscribe();
        assert!(hub.is_watched());
        let ending = Arc::clone(&hub);
        let end = tokio::spawn(async move { ending.end(&View::default()).await });
        watching.changed().await.expect("the last view");
        assert!(watching.borrow_and_update().is_last && !end.is_finished(), "it waits for this one");
        // This one never hangs up.
        tokio::time::timeout(FAREWELL_MAX * 30, end).await.expect("it ends all the same").expect("in order");
        drop(watching);
        assert!(!hub.is_watched());
    }

    #[test]
    fn a_port_alone_is_on_loopback() {
        let check = |text: &str, expect: &str| assert_eq!(place(text), Ok(expect.parse().unwrap()));
        check("9464", "127.0.0.1:9464");
        check("0.0.0.0:9464", "0.0.0.0:9464");
        check("[::]:0", "[::]:0");
        assert!(place("localhost:9464").unwrap_err().contains("ADDR:PORT"));
    }
}
