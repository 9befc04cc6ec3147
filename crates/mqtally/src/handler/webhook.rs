//! `http(s)://…`: a POST for each message.
//!
//! The body is the payload. `Idempotency-Key` is the message's [`identity`](super::identity), the same at every attempt.
//! CloudEvents 1.0 headers in binary mode: `ce-id` (the identity), `ce-source`, `ce-type`, `ce-subject` (the topic),
//! `ce-time` (reception); a message that is a CloudEvent itself, by its user properties, keeps its own.
//! `Content-Type` is the message's, else JSON where it is a JSON object or array, else UTF-8 text where the message says
//! so, else bytes.
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx, 409 (it knows the message) | done |
//! | 429, 5xx, no connection, no answer in time | retry, after `Retry-After` where it is given, at most an hour |
//! | 3xx | dead letter: redirects are not followed, so that no message goes where nobody sent it |
//! | other 4xx | dead letter, with the beginning of the answer |
//!
//! Connections are kept for the next message. The proxy variables of the environment (`HTTPS_PROXY`, `NO_PROXY`, …) hold.
//! Deliberately absent: signatures, and switching the verification of certificates off.

use super::{OpenError, Options, PARALLEL_MAX, SpecError, chain, dead, record, retry};
use crate::inbox::{Delivery, Outcome};
use mqtally_proto::packet::Property;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use ureq::config::AutoHeaderValue;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Longest delay that an answer can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of an answer that are read: enough for its reason, and for most connections to be used again.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// Characters of an answer that an error shows.
const ANSWER_SHOWN_MAX: usize = 200;
/// Larger payloads are not looked into for their type.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Idle connections are closed before most servers would.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// How webhooks are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// PEM file with the certificates to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// `ce-source`: a URI reference that tells this consumer from others.
    pub source: String,
    /// `ce-type` of messages that have none.
    pub event_type: String,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self { ca_file: None, source: "mqtally".to_owned(), event_type: "mqtally.message".to_owned() }
    }
}

pub(super) struct Webhook {
    agent: Agent,
    url: String,
    time_max: Duration,
    options: WebhookOptions,
    turns: Arc<Semaphore>,
}

impl Webhook {
    pub(super) fn new(url: &str, options: &Options) -> Result<Self, OpenError> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(options.time_max))
            .max_idle_connections_per_host(PARALLEL_MAX)
            .max_idle_connections(PARALLEL_MAX)
            .max_idle_age(IDLE_MAX)
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(concat!("mqtally/", env!("CARGO_PKG_VERSION")));
        let agent = match url.starts_with("https:") {
            true => agent.tls_config(tls(options.webhook.ca_file.as_deref())?),
            false => agent,
        };
        Ok(Self {
            agent: agent.build().new_agent(),
            url: url.to_owned(),
            time_max: options.time_max,
            options: options.webhook.clone(),
            turns: Arc::new(Semaphore::new(PARALLEL_MAX)),
        })
    }

    /// Waiting for its turn, then for the answer.
    pub(super) fn time_max(&self) -> Duration {
        self.time_max * 2
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        let Ok(Ok(turn)) = timeout(self.time_max, Arc::clone(&self.turns).acquire_owned()).await else {
            return retry(format!("it was not its turn within {:?}", self.time_max));
        };
        let (headers, payload) = (headers(delivery, &self.options), delivery.payload.clone());
        let mut request = self.agent.post(&self.url);
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
        }
        // The turn is over with the request, not with the wait for it: there are never more threads than turns.
        let answered = tokio::task::spawn_blocking(move || {
            let outcome = request.send(&payload[..]).map_or_else(|error| unanswered(&error), judge);
            drop(turn);
            outcome
        });
        match timeout(self.time_max, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => retry(format!("the request failed: {error}")),
            Err(_) => retry(format!("no answer within {:?}", self.time_max)),
        }
    }
}

/// Whether the URL can be called.
pub(super) fn check_url(url: &str) -> Result<(), SpecError> {
    let uri: Uri = url.parse().map_err(|_| SpecError::Url("cannot be read"))?;
    match uri.host() {
        None | Some("") => Err(SpecError::Url("names no host")),
        Some(_) if uri.port_u16() == Some(0) => Err(SpecError::Url("has port 0")),
        Some(_) => Ok(()),
    }
}

/// Scheme and host: path, query and user may be secrets.
pub(super) fn without_secrets(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default());
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let rest = if matches!(uri.path(), "" | "/") && uri.query().is_none() { "" } else { "/…" };
    format!("{scheme}://{host}{port}{rest}")
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, OpenError> {
    let trusted = match ca_file {
        Some(path) => own_authorities(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if trusted.is_empty() {
        let why = "the system has no trusted certificates; install ca-certificates, or name a CA file";
        return Err(OpenError::Webhook(why.to_owned()));
    }
    let trusted: Vec<_> = trusted.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(trusted)))
        .build())
}

fn own_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let unusable = |why: String| {
        OpenError::Webhook(format!(
            "the CA file {} is not usable: {why}; give PEM certificates",
            path.display()
        ))
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() { Err(unusable("there is none in it".to_owned())) } else { Ok(certificates) }
}

fn headers(delivery: &Delivery, options: &WebhookOptions) -> HeaderMap {
    let identity = record::identity(delivery);
    let (id, source, event_type) =
        own_event(delivery).unwrap_or((&identity, &options.source, &options.event_type));
    let time = record::rfc_3339(delivery.received_at);
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        // Nothing of these can be refused but for its length, and then it is better left out than the message.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("idempotency-key", &identity);
    put("content-type", content_type(delivery));
    put("ce-specversion", "1.0");
    put("ce-id", &attribute(id));
    put("ce-source", &attribute(source));
    put("ce-type", &attribute(event_type));
    put("ce-subject", &attribute(&delivery.topic));
    put("ce-time", &time);
    headers
}

/// Id, source and type of a message that is a CloudEvent in binary mode.
fn own_event(delivery: &Delivery) -> Option<(&str, &str, &str)> {
    let user = |wanted: &str| {
        delivery.properties.0.iter().find_map(|property| match property {
            Property::UserProperty(name, value) if &**name == wanted && !value.is_empty() => Some(&**value),
            _ => None,
        })
    };
    user("specversion")?;
    Some((user("id")?, user("source")?, user("type")?))
}

fn content_type(delivery: &Delivery) -> &str {
    let own = delivery.properties.content_type().map(|text| &**text);
    // Of an unlawful header value nothing can be kept.
    if let Some(own) =
        own.filter(|own| !own.is_empty() && own.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    {
        return own;
    }
    if is_json(&delivery.payload) {
        "application/json"
    } else if delivery.properties.payload_format_indicator() == Some(1) {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// Whether it is a JSON object or array. A bare number or word is as likely to be text.
fn is_json(payload: &[u8]) -> bool {
    let opens = payload.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['));
    opens
        && payload.len() <= JSON_BYTES_MAX
        && serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}

/// An attribute's value as a header: percent-encoded by the HTTP binding of CloudEvents (3.1.3.2).
fn attribute(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b' ' | b'"' | b'%' | 0..=0x1f | 0x7f.. => drop(write!(encoded, "%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

fn judge(mut response: Response<Body>) -> Outcome {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // Read even where it is of no interest: only then can the connection be used again.
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match status {
        200..=299 | 409 => Outcome::Done,
        429 | 500..=599 => {
            let after = text("retry-after").and_then(|value| delay_in(value, SystemTime::now()));
            let Outcome::Retry { error, .. } = retry(said(status, &body)) else { return Outcome::Done };
            Outcome::Retry { after, error }
        }
        300..=399 => {
            let host = text("location").map(without_secrets).unwrap_or_default();
            dead(format!(
                "answered {status}, a redirect to {host:?}, which is not followed; name the final URL"
            ))
        }
        _ => dead(said(status, &body)),
    }
}

fn said(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let shown: String = text.trim().chars().take(ANSWER_SHOWN_MAX).collect();
    if shown.is_empty() { format!("answered {status}") } else { format!("answered {status}: {shown}") }
}

fn unanswered(error: &ureq::Error) -> Outcome {
    retry(match error {
        ureq::Error::HostNotFound => "its host name is not known".to_owned(),
        ureq::Error::Timeout(step) => format!("no answer in time ({step})"),
        error => format!("no answer: {}", chain(error)),
    })
}

/// `Retry-After`: seconds, or a date. None where it is neither or has passed; then the policy's delay holds.
fn delay_in(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let delay = match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are a long time too.
        true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
        false => httpdate::parse_http_date(value).ok()?.duration_since(now).ok()?,
    };
    Some(delay.min(RETRY_AFTER_MAX)).filter(|delay| !delay.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let check = |value, expect: Option<u64>| {
            assert_eq!(delay_in(value, now), expect.map(Duration::from_secs), "{value:?}");
        };
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("0", None);
        check("4000", Some(3_600));
        check("99999999999999999999999", Some(3_600));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check("Sunday, 06-Nov-94 08:50:07 GMT", Some(30));
        check("Sun, 06 Nov 1994 08:49:07 GMT", None);
        check("Sat, 06 Nov 2094 08:49:07 GMT", Some(3_600));
        for nonsense in ["", "-1", "soon", "1.5", "+5"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn attributes_are_percent_encoded() {
        assert_eq!(attribute("a/b c\"d%"), "a/b%20c%22d%25");
        assert_eq!(attribute("é\n\u{7f}"), "%C3%A9%0A%7F");
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let check = |url: &str, expect: &str| assert_eq!(without_secrets(url), expect);
        check("https://user:pw@example.com:8443/T0/secret?token=x", "https://example.com:8443/…");
        check("http://example.com", "http://example.com");
        check("http://[::1]:80/", "http://[::1]:80");
    }
}
