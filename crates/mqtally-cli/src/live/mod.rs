//! The live view: one page that shows a run, or a subscriber, as it goes.
//!
//! - [`View`]: all that the page shows, in one struct; the page adds nothing to it. **Start here.**
//! - [`Hub`]: has the latest view and answers for it over HTTP.
//! - [`Access`]: who may look, and whose pages may act.
//! - [`Pace`]: rates out of counters, and latencies, over the last minutes.
//!
//! Whoever watches gets the latest view each time it can take one. There is no queue, so a slow reader costs nobody
//! anything; how many may watch has a bound ([`http`](crate::http)).

mod access;
mod pace;
mod page;
mod view;

pub(crate) use access::{Access, TokenArgs};
pub(crate) use pace::{Pace, Window};
pub(crate) use view::{Column, Curve, Figure, Plot, Row, State, Table, Tone, View};

use crate::http::{Answer, Event, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const JSON: &str = "application/json";
/// How long those who watch have to take the last view.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

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
