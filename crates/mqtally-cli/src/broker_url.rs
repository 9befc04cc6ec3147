//! The broker that was named, with the password that was not, and whom to trust there.

use crate::exit::{ExitStatus, Failure, redact};
use mqtally::endpoint::{Endpoint, EndpointError};
use mqtally::tls::{Identity, Roots, Tls, TlsError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Environment variable for the password itself, which no flag takes: flags are seen by everybody on the machine.
const PASSWORD_VARIABLE: &str = "MQTALLY_PASSWORD";
/// Nobody's password is longer; a file that is was named by mistake.
const PASSWORD_LEN_MAX: u64 = 65_535;

/// Whom to trust, and who we are, on mqtts:// and wss://.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
pub(crate) struct TlsArgs {
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Our certificate, with those between it and its authority, as PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of our certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl From<&TlsArgs> for Tls {
    fn from(TlsArgs { cafile, cert, key }: &TlsArgs) -> Tls {
        let identity = |(certificate, key): (&PathBuf, &PathBuf)| Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        Tls {
            roots: cafile.clone().map_or(Roots::System, Roots::CaFile),
            identity: cert.as_ref().zip(key.as_ref()).map(identity),
        }
    }
}

/// The endpoint at `url`, with the password from the file or the environment.
pub(crate) fn endpoint(url: &str, password_file: Option<&Path>) -> Result<Endpoint, Failure> {
    let endpoint: Endpoint =
        url.parse().map_err(|error: EndpointError| Failure::told(ExitStatus::Usage, &error, redact(url)))?;
    let Some(password) = password(password_file)? else { return Ok(endpoint) };
    match endpoint.username() {
        Some(_) => Ok(endpoint.with_password(password)),
        None => {
            Err(Failure::usage("a password without a user name", redact(url), "write mqtt://USER@HOST:PORT"))
        }
    }
}

/// The same with these files for TLS, which were read once.
pub(crate) fn endpoint_with(
    url: &str,
    password_file: Option<&Path>,
    tls: &TlsArgs,
) -> Result<Endpoint, Failure> {
    let endpoint = endpoint(url, password_file)?.with_tls(tls.into());
    let wrong = |error: TlsError| match error {
        TlsError::Plain(_) => Failure::told(ExitStatus::Usage, &error, redact(url)),
        error => Failure::told(ExitStatus::Io, &error, "--cafile, --cert, --key"),
    };
    endpoint.check_tls().map_err(wrong).map(|()| endpoint)
}

/// The first line of the file, else the password in the environment.
pub(crate) fn password(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(std::env::var(PASSWORD_VARIABLE).ok()) };
    let unreadable = |error: &io::Error| {
        Failure::io(
            "cannot read the password",
            file,
            error,
            "name a file with the password on its first line",
        )
    };
    let text = read_short(file).map_err(|error| unreadable(&error))?;
    Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
}

fn read_short(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(PASSWORD_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}
