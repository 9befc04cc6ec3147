//! One blow of the nemesis.

use super::{Kind, Load};
use crate::proxy::fault::{Fault, Refusal};
use crate::proxy::{Direction, PacketKind, Rule, RuleError};
use std::fmt;
use std::str::FromStr;

/// One blow: what is done, at which packet, and under which load.
///
/// It is a rule of the proxy, or a deed at a packet: the link is held still there, and the deed is done.
///
/// ```text
/// cut rst after s2c PUBREL 2            a rule, see [`Rule`]
/// takeover after c2s PUBREC 1           half-open, takeover, kill-client, wipe-client, kill-process, wipe-process,
/// pause-broker before s2c PUBACK for 80ms       pause-broker, terminate-broker, kill-broker
/// cut fin before s2c PUBREC window=21   window=N, receive=N and payload=BYTES say what else goes on
/// ```
///
/// ```
/// use mqtally_harness::nemesis::Strike;
/// let strike: Strike = "cut after s2c PUBREL 2 rst".parse()?;
/// assert_eq!(strike.to_string(), "cut rst after s2c PUBREL 2");
/// assert_eq!(strike.kind().name, "cut-subscriber");
/// # Ok::<(), mqtally_harness::proxy::RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    pub(crate) deed: Deed,
    pub(crate) load: Load,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The proxy does it.
    Rule(Rule),
    /// It is done while the link of the packet is held still by this rule.
    Act(Act, Rule),
}

/// What no proxy can do alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The client gives its connection up, and the broker does not hear of it.
    HalfOpen,
    /// Somebody connects under the same client id.
    Takeover,
    /// The client dies and has its session afterwards.
    KillClient,
    /// The client dies and has forgotten its session.
    WipeClient,
    /// SIGKILL to the client's process, and another start with its store.
    KillProcess,
    /// The same, and its store is gone.
    WipeProcess,
    /// SIGSTOP, SIGCONT.
    PauseBroker,
    /// SIGTERM, and another start.
    TerminateBroker,
    /// SIGKILL, and another start.
    KillBroker,
}

impl Act {
    const ALL: [Self; 9] = [
        Self::HalfOpen,
        Self::Takeover,
        Self::KillClient,
        Self::WipeClient,
        Self::KillProcess,
        Self::WipeProcess,
        Self::PauseBroker,
        Self::TerminateBroker,
        Self::KillBroker,
    ];

    /// The deed of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Takeover => "takeover",
            Self::KillClient => "kill-client",
            Self::WipeClient => "wipe-client",
            Self::KillProcess => "kill-process",
            Self::WipeProcess => "wipe-process",
            Self::PauseBroker => "pause-broker",
            Self::TerminateBroker => "terminate-broker",
            Self::KillBroker => "kill-broker",
        }
    }

    pub(super) fn kind_name(self) -> &'static str {
        match self {
            Self::WipeClient => Self::KillClient.name(),
            Self::WipeProcess => Self::KillProcess.name(),
            _ => self.name(),
        }
    }

    /// What happens to the link meanwhile.
    fn holds_by(self) -> Fault {
        let way = crate::proxy::fault::Way::Both;
        match self {
            Self::HalfOpen => Fault::BlackHole(crate::proxy::fault::BlackHole { way }),
            _ => Fault::Stall(crate::proxy::fault::Stall { way }),
        }
    }
}

impl Strike {
    /// A rule of the proxy.
    pub(crate) fn rule(rule: Rule) -> Self {
        Self { deed: Deed::Rule(rule), load: Load::default() }
    }

    /// A deed at the moment that `at` makes of a rule.
    pub(crate) fn act(act: Act, at: impl FnOnce(Rule) -> Rule) -> Self {
        Self { deed: Deed::Act(act, at(Rule::new(act.holds_by()))), load: Load::default() }
    }

    #[must_use]
    pub(crate) fn under(self, load: Load) -> Self {
        Self { load, ..self }
    }

    /// Without listening sockets, and with the load of somebody else.
    pub(super) fn can_be_simulated(&self) -> bool {
        let refuses = |rule: &Rule| matches!(rule.fault(), Fault::Refuse(it) if it.how == Refusal::Unlisten);
        self.load == Load::default() && !matches!(&self.deed, Deed::Rule(rule) if refuses(rule))
    }

    /// Of which kind it is.
    pub fn kind(&self) -> &'static Kind {
        Kind::from_name(self.kind_name()).unwrap_or(super::KINDS[0])
    }

    fn kind_name(&self) -> &'static str {
        if self.load.window.is_some() || self.load.receive_maximum.is_some() {
            return "windows";
        }
        match &self.deed {
            Deed::Act(act, _) => act.kind_name(),
            Deed::Rule(rule) => kind_of(rule),
        }
    }

    /// Whether it waits for a client to connect.
    pub(crate) fn awaits_connect(&self) -> bool {
        let rule = self.proxied();
        let kind = rule.moment().and_then(|moment| moment.kind);
        matches!(rule.fault(), Fault::Storm(_) | Fault::Refuse(_))
            || matches!(kind, Some(PacketKind::CONNECT | PacketKind::CONNACK))
    }

    /// What the proxy is told.
    pub(crate) fn proxied(&self) -> &Rule {
        match &self.deed {
            Deed::Rule(rule) | Deed::Act(_, rule) => rule,
        }
    }
}

fn kind_of(rule: &Rule) -> &'static str {
    match rule.fault() {
        Fault::Cut(_) => match rule.moment().map(|moment| (moment.direction, moment.kind)) {
            Some((_, Some(PacketKind::CONNECT | PacketKind::CONNACK))) => "aborted-connect",
            Some((direction, kind)) if is_of_publisher(direction, kind) => "cut-publisher",
            _ => "cut-subscriber",
        },
        Fault::Refuse(_) => "aborted-connect",
        Fault::Storm(_) => "connect-storm",
        Fault::BlackHole(_) => "half-open",
        Fault::Stall(_) => "slow-consumer",
        _ => "segmentation",
    }
}

/// Whether such a packet is on a publisher's link: in a handshake the direction tells.
pub(crate) fn is_of_publisher(direction: Direction, kind: Option<PacketKind>) -> bool {
    let asks = matches!(kind, Some(PacketKind::PUBLISH | PacketKind::PUBREL));
    asks == (direction == Direction::ToServer)
}

impl FromStr for Strike {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut load = Load::default();
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            match load.take(word) {
                Ok(true) => {}
                Ok(false) => words.push(word),
                Err(problem) => return Err(error(problem, word)),
            }
        }
        let act = words.first().and_then(|first| Act::from_name(first));
        let deed = match act {
            Some(act) => Deed::Act(act, held(act, &words[1..])?),
            None => Deed::Rule(words.join(" ").parse()?),
        };
        let strike = Self { deed, load };
        if matches!(act, Some(Act::KillProcess | Act::WipeProcess)) && load != Load::default() {
            return Err(error("its programs have a load of their own:", words[0]));
        }
        if !strike.proxied().is_lawful() {
            return Err(error("no network does this, so that nothing would follow from it:", words[0]));
        }
        Ok(strike)
    }
}

/// Reads a deed's moment as that of the rule that holds the link still.
fn held(act: Act, words: &[&str]) -> Result<Rule, RuleError> {
    let written = format!("{} both", act.holds_by().name());
    let rule: Rule = format!("{written} {}", words.join(" ")).parse().map_err(|error: RuleError| {
        let column = (error.column + act.name().len()).saturating_sub(written.len()).max(1);
        RuleError { column, ..error }
    })?;
    if rule.moment().is_none() {
        return Err(error("it needs its packet, such as 'after s2c PUBLISH', behind", act.name()));
    }
    if rule.duration_ms().is_some() && act != Act::PauseBroker {
        return Err(error("it is over at once, so that 'for' says nothing:", act.name()));
    }
    Ok(rule)
}

fn error(problem: impl Into<String>, word: &str) -> RuleError {
    RuleError { problem: problem.into(), word: word.to_owned(), column: 1, known: Vec::new() }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.deed {
            Deed::Rule(rule) => rule.fmt(f)?,
            Deed::Act(act, rule) => {
                let written = rule.to_string();
                let held = format!("{} both", act.holds_by().name());
                write!(f, "{}{}", act.name(), written.strip_prefix(&held).unwrap_or(&written))?;
            }
        }
        self.load.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strike_reads_what_it_prints_and_knows_its_kind() {
        let check = |text: &str, prints: &str, kind: &str| {
            let strike: Strike = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(strike.to_string(), prints);
            assert_eq!(prints.parse::<Strike>().as_ref(), Ok(&strike));
            assert_eq!(strike.kind().name, kind, "{text}");
        };
        check("cut after s2c PUBREL 2 rst", "cut rst after s2c PUBREL 2", "cut-subscriber");
        check("cut before c2s PUBACK", "cut fin before c2s PUBACK", "cut-subscriber");
        check("cut inside c2s PUBREL bytes=3", "cut fin inside c2s PUBREL bytes=3", "cut-publisher");
        check("cut before s2c PUBCOMP", "cut fin before s2c PUBCOMP", "cut-publisher");
        check("abort-connect", "cut fin after c2s CONNECT", "aborted-connect");
        check("storm 3", "storm 3 within 10ms", "connect-storm");
        check("takeover after c2s PUBREC 2", "takeover after c2s PUBREC 2", "takeover");
        check("half-open before s2c PUBLISH", "half-open before s2c PUBLISH", "half-open");
        check("wipe-client after s2c PUBACK", "wipe-client after s2c PUBACK", "kill-client");
        check("wipe-process after s2c PUBACK", "wipe-process after s2c PUBACK", "kill-process");
        check(
            "pause-broker after c2s PUBLISH for 80ms",
            "pause-broker after c2s PUBLISH for 80ms",
            "pause-broker",
        );
        check("cut fin before s2c PUBREC window=21", "cut fin before s2c PUBREC window=21", "windows");
        check("stall s2c for 100ms payload=900", "stall s2c for 100ms payload=900", "slow-consumer");
        check("split c2s 1", "split c2s 1", "segmentation");
    }

    #[test]
    fn what_makes_no_strike_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Strike>().expect_err(text);
            assert_eq!(error.to_string(), expect, "{text}");
        };
        check("takeover", "it needs its packet, such as 'after s2c PUBLISH', behind 'takeover' at column 1");
        check("kill-broker after c2s PUBLIS", "unknown packet 'PUBLIS' at column 23");
        check(
            "drop c2s PUBACK",
            "no network does this, so that nothing would follow from it: 'drop' at column 1",
        );
        check(
            "kill-process after s2c PUBACK window=3",
            "its programs have a load of their own: 'kill-process' at column 1",
        );
        check("split c2s 1 window=0", "window= wants a number from 1 to 65535: 'window=0' at column 1");
        check(
            "takeover after s2c PUBLISH for 1s",
            "it is over at once, so that 'for' says nothing: 'takeover' at column 1",
        );
    }
}
