//! Which broker, and who we are there.

use crate::broker_url::{self, TlsArgs};
use crate::exit::Failure;
use clap::ValueEnum;
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::Version;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
pub(super) struct BrokerArgs {
    /// The broker: mqtt://, mqtts://, ws:// or wss://USER@HOST:PORT, or unix:/PATH
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub(super) broker: String,
    /// Our name at the broker, which keeps what we have not acknowledged under it; ours alone, always the same
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// Read the password from the first line of this file instead of MQTALLY_PASSWORD; the URL has the user name
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Version of MQTT to speak
    #[arg(long, value_enum, default_value = "5")]
    protocol: Protocol,
    #[command(flatten)]
    tls: TlsArgs,
    /// Seconds of silence after which the connection is checked; 0 never does
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(super) keep_alive: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    #[value(name = "3.1.1")]
    V3,
    #[value(name = "5")]
    V5,
}

impl BrokerArgs {
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        broker_url::endpoint_with(&self.broker, self.password_file.as_deref(), &self.tls)
    }

    pub(super) fn version(&self) -> Version {
        match self.protocol {
            Protocol::V3 => Version::V3_1_1,
            Protocol::V5 => Version::V5_0,
        }
    }
}
