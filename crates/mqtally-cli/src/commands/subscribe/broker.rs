//! Which broker, and who we are there.

use crate::broker_url;
use crate::exit::Failure;
use clap::ValueEnum;
use mqtally::endpoint::Endpoint;
use mqtally::tls::{Identity, Roots, Tls};
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
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Our certificate, with those between it and its authority, as PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of our certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
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
        Ok(broker_url::endpoint(&self.broker, self.password_file.as_deref())?.with_tls(self.tls()))
    }

    pub(super) fn version(&self) -> Version {
        match self.protocol {
            Protocol::V3 => Version::V3_1_1,
            Protocol::V5 => Version::V5_0,
        }
    }

    fn tls(&self) -> Tls {
        let identity = |(certificate, key): (&PathBuf, &PathBuf)| Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        Tls {
            roots: self.cafile.clone().map_or(Roots::System, Roots::CaFile),
            identity: self.cert.as_ref().zip(self.key.as_ref()).map(identity),
        }
    }
}
