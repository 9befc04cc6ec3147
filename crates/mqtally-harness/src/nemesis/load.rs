//! The traffic that a strike meets.

/// The traffic around a strike, as far as it matters to it. What is absent is as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Messages that the publisher has in flight.
    pub(crate) window: Option<u16>,
    /// Messages that the subscriber lets the broker have unacknowledged (5.0).
    pub(crate) receive_maximum: Option<u16>,
    /// Bytes of a payload behind its marker.
    pub(crate) payload_bytes: Option<u16>,
}

/// Messages in flight where windows are not what a strike is about.
const WINDOW: u16 = 10;
/// Messages of each stream between two looks at what has happened.
const BATCH_MIN: u16 = 3;

impl Load {
    pub(crate) fn window(&self) -> u16 {
        self.window.unwrap_or(WINDOW)
    }

    /// Messages of each of two streams that fill the window together.
    pub(crate) fn batch(&self) -> u16 {
        self.window.map_or(BATCH_MIN, |window| (window / 2 + 1).max(BATCH_MIN))
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        vec![b'.'; self.payload_bytes.map_or(4, usize::from)]
    }

    /// Takes `key=value`; whether it is one of ours.
    pub(super) fn take(&mut self, word: &str) -> Result<bool, String> {
        let Some((key, value)) = word.split_once('=') else { return Ok(false) };
        let place = match key {
            "window" => &mut self.window,
            "receive" => &mut self.receive_maximum,
            "payload" => &mut self.payload_bytes,
            _ => return Ok(false),
        };
        let number = value.parse().ok().filter(|number| *number > 0);
        *place = Some(number.ok_or_else(|| format!("{key}= wants a number from 1 to 65535:"))?);
        Ok(true)
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words =
            [("window", self.window), ("receive", self.receive_maximum), ("payload", self.payload_bytes)];
        for (key, value) in words {
            if let Some(value) = value {
                write!(f, " {key}={value}")?;
            }
        }
        Ok(())
    }
}
