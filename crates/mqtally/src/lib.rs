//! Reliable MQTT endpoints.
//!
//! Start here:
//!
//! - [`publisher`]: [`Publisher`](publisher::Publisher), which delivers every message that it accepted. **Start here.**
//! - [`client`]: [`Client`](client::Client), a handle on one session and its connections: publish, subscribe,
//!   acknowledge, cut, connect again.
//! - [`message`]: the JSON envelope that gives a message a name and a sender.
//! - [`dedup`]: telling a repeated message from a new one by that name, and the statistics of it.
//! - [`endpoint`]: where a broker is, from a URL: TCP, TLS, WebSocket or a Unix socket.
//! - [`tls`]: whom to trust there and who we are.
//! - [`inbox`]: the durable heart of a reliable subscriber: store, acknowledge, then handle.
//! - [`handler`]: where messages go: a file, a program, a webhook, a table, your own function.
//! - [`subscriber`]: connection, inbox and handlers in one: loses nothing that it acknowledged.
//! - [`outbox`]: the durable heart of the publisher: what was published and is not settled.
//! - [`reconcile`](mod@reconcile): compares an outbox with an inbox, message by message.
//! - [`store`]: the files behind both: opened, owned, checked.
//! - [`connection`]: the only MQTT sockets of this crate, and the [`Tap`](connection::Tap) that sees every frame.
//!
//! The protocol itself, packets and session rules, is in [`mqtally_proto`]; nothing of it is repeated here.
//!
//! ```no_run
//! use mqtally::client::{Client, Event, Settings};
//! use mqtally_proto::packet::{Publish, Qos, ReasonCode, Version};
//! use mqtally_proto::session::{Event as SessionEvent, Options};
//!
//! # async fn publish_one() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::new("mqtt://localhost".parse()?, Options::new(Version::V5_0, "pump-7"));
//! let (client, mut events) = Client::start(settings);
//! client.connect().await?;
//! let message = Publish { qos: Qos::AtLeastOnce, topic: "alerts/door".into(), ..Publish::default() };
//! client.publish(1, message).await?;
//! while let Some(event) = events.recv().await {
//!     if let Event::Session(SessionEvent::Completed { token: 1, reason }) = event {
//!         println!("the broker owns it: {reason}");
//!         break;
//!     }
//! }
//! client.disconnect(ReasonCode::SUCCESS, None).await;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod connection;
pub mod dedup;
pub mod endpoint;
pub mod handler;
pub mod inbox;
pub mod message;
pub mod outbox;
pub mod publisher;
pub mod reconcile;
pub mod store;
pub mod subscriber;
pub mod tls;
