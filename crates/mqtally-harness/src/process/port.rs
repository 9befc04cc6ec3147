//! A port for a broker that we start.
//!
//! It has to be free when the broker comes to it, and again after each kill. A port that the system hands out may be
//! anybody's by then: of a listener on port 0, or of a connection, which gets one of the same ports.

use super::{LOOPBACK, ProcessError};
use std::io;
use std::net::TcpListener;
use std::ops::Range;

/// Below what systems hand out by themselves: from 32,768 on Linux, from 49,152 elsewhere.
const NEVER_HANDED_OUT: Range<u16> = 20_000..32_000;
/// How many of them are tried before the system is asked for one after all.
const ATTEMPTS: usize = 100;

/// A port on which nobody listens. No run depends on which one it is, so it does not come from the seed.
///
/// # Errors
/// The system has none.
pub(super) fn free() -> Result<u16, ProcessError> {
    let ours = (0..ATTEMPTS).find_map(|_| try_port(fastrand::u16(NEVER_HANDED_OUT)).ok());
    ours.map_or_else(|| try_port(0), Ok)
        .map_err(|error| ProcessError::System { act: "looking for a free port", error })
}

fn try_port(port: u16) -> io::Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, port))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever listens on port 0, or connects, may get the port of a broker before that is there, or while it is killed.
    #[test]
    fn nobody_is_given_the_port_of_a_broker_that_starts() {
        for _ in 0..100 {
            assert!(NEVER_HANDED_OUT.contains(&free().expect("no port")));
        }
    }
}
