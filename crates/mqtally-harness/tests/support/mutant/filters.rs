//! Brokers that forget or keep filters that they should not, or take them for more than they are.

use super::{Link, Mutant, OWN_PACKET_ID, State};
use bytestring::ByteString;
use mqtally_proto::packet::{Packet, Properties, Publish, Qos, Suback, Subscribe, Subscription, Unsubscribe};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;

/// Where a broker that is a process of its own notes who asked for what.
const NOTES: &str = "filters";

/// What every client asked for in the lives of the process before this one.
pub(super) fn noted() -> HashMap<String, Vec<ByteString>> {
    let mut noted: HashMap<String, Vec<ByteString>> = HashMap::new();
    for line in fs::read_to_string(NOTES).unwrap_or_default().lines() {
        let (client, filter) = line.split_once('\t').expect("it was written here");
        noted.entry(client.to_owned()).or_default().push(filter.into());
    }
    noted
}

impl Link {
    /// A client asks for something.
    pub(super) fn asks(&mut self, subscribe: &Subscribe, state: &mut State) {
        match state.mutant {
            Mutant::KeepFiltersAtCleanStart if self.is("clean-start") && self.number == 1 => {
                state.filters.extend(subscribe.filters.iter().map(|it| it.filter.clone()));
            }
            Mutant::ForgetFiltersAtRestart => self.note(subscribe),
            Mutant::ForgetOptions if self.is("no-local") => {
                state.filters = subscribe.filters.iter().map(|it| it.filter.clone()).collect();
            }
            _ => {}
        }
    }

    /// The broker says what it grants.
    pub(super) fn grants(&mut self, suback: Suback, state: &mut State) {
        if suback.packet_id == OWN_PACKET_ID {
            // It was asked for in the client's stead.
            return;
        }
        self.client(&Packet::Suback(suback));
        if state.mutant == Mutant::MatchSys && self.is("wildcards") {
            state.strikes += 1;
            // What a broker says of itself.
            let (topic, payload) = ("$SYS/broker/uptime".into(), "1".into());
            self.client(&Packet::Publish(Publish { topic, payload, ..Publish::default() }));
        }
    }

    /// A message below `$` that goes to whoever asked for everything.
    pub(super) fn deliver_aside(&mut self, state: &mut State) {
        if let Some(aside) = state.kept.take_if(|_| self.is("wildcards")) {
            state.strikes += 1;
            self.client(&Packet::Publish(aside));
        }
    }

    /// A clean start that keeps what the session before had asked for.
    pub(super) fn keep_filters(&mut self, state: &mut State) {
        if state.mutant == Mutant::KeepFiltersAtCleanStart && self.is("clean-start") && self.number == 2 {
            self.ask_in_its_stead(state);
        }
    }

    /// A session that is resumed with the filters alone.
    pub(super) fn forget_options(&mut self, state: &mut State) {
        if state.mutant == Mutant::ForgetOptions && self.is("no-local") && self.number == 2 {
            self.ask_in_its_stead(state);
        }
    }

    /// Subscribes to what the client had asked for, without its options.
    fn ask_in_its_stead(&mut self, state: &mut State) {
        state.strikes += 1;
        let filters = std::mem::take(&mut state.filters);
        let filters = filters.into_iter().map(|it| Subscription::new(it, Qos::ExactlyOnce)).collect();
        let properties = Properties::default();
        self.broker(&Packet::Subscribe(Subscribe { packet_id: OWN_PACKET_ID, properties, filters }));
    }

    /// A session that is resumed without what it had asked for before the restart.
    pub(super) fn forget_before_restart(&mut self, session_present: bool, state: &mut State) {
        if state.mutant != Mutant::ForgetFiltersAtRestart || self.number > 1 {
            return;
        }
        let filters = state.noted.remove(&self.client).filter(|_| session_present);
        if let Some(filters) = filters {
            state.strikes += 1;
            self.give_up(filters);
        }
    }

    /// Gives filters up in the client's stead.
    pub(super) fn give_up(&mut self, filters: Vec<ByteString>) {
        self.forgetting = true;
        let properties = Properties::default();
        self.broker(&Packet::Unsubscribe(Unsubscribe { packet_id: OWN_PACKET_ID, properties, filters }));
    }

    fn note(&self, subscribe: &Subscribe) {
        let mut notes = OpenOptions::new().create(true).append(true).open(NOTES).expect("a file");
        for it in &subscribe.filters {
            writeln!(notes, "{}\t{}", self.client, it.filter).expect("it is written");
        }
    }
}
