//! A client process: it connects and comes back, publishes or subscribes, dies and is started again.

use super::inbox::{self, Subscriber};
use super::net::{LinkId, Net};
use super::outbox::{self, Publisher};
use super::peer::{Arrived, Peer};
use super::plan::{ClientPlan, RolePlan, SubscriberPlan};
use super::{Alarm, ClientIx, Defect, Happening, time};
use mqtally_history::event::EventKind;
use mqtally_proto::packet::{Packet, Properties, Publish, ReasonCode, Version};
use mqtally_proto::session::{Acknowledge, Event, Options, Session};
use std::time::Duration;

/// How long a client waits for CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that was left for another one stays open if nobody closes it.
const LEFT_OPEN: Duration = Duration::from_secs(3);
/// Between two attempts to connect at most.
const BACKOFF_MAX: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(super) enum Role {
    Publisher(Publisher),
    Subscriber(Subscriber),
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) plan: ClientPlan,
    pub(super) peer: Peer,
    pub(super) role: Role,
    defect: Option<Defect>,
    sync_max: Duration,
    /// Which life of the process it is.
    life: u64,
    up: bool,
    online: bool,
    /// The next connection discards a session that this process knows nothing of.
    anew: bool,
    /// It left, and comes back by itself.
    away: bool,
    dial_planned: bool,
    timer_at: Option<Duration>,
}

impl Client {
    pub(super) fn new(
        ix: ClientIx,
        plan: ClientPlan,
        run: u32,
        sync_max: Duration,
        defect: Option<Defect>,
    ) -> Self {
        let role = match &plan.role {
            RolePlan::Publisher(it) => {
                let number = u32::try_from(ix).unwrap_or(u32::MAX);
                Role::Publisher(Publisher::new(it, plan.version, run, number))
            }
            RolePlan::Subscriber(_) => Role::Subscriber(Subscriber::new(run)),
        };
        let peer = Peer::new(ix, plan.name.clone(), Options::new(plan.version, &*plan.name));
        Self {
            plan,
            peer,
            role,
            defect,
            sync_max,
            life: 0,
            up: false,
            online: false,
            anew: false,
            away: false,
            dial_planned: false,
            timer_at: None,
        }
    }

    /// The process begins, on what its store has.
    pub(super) fn start(&mut self, net: &mut Net) {
        let mut options = self.options();
        match &mut self.role {
            Role::Publisher(it) => options.resume = it.resumes(),
            Role::Subscriber(it) => {
                options.remembered = it.restore();
                options.resume = self.plan.store;
            }
        }
        self.anew = self.plan.session_expiry > 0 && !options.resume;
        options.clean_start = self.plan.session_expiry == 0 || self.anew;
        self.peer.session = Session::new(options);
        if let Role::Publisher(it) = &mut self.role {
            it.restore(&mut self.peer.session);
        }
        (self.up, self.online, self.away) = (true, false, false);
        (self.dial_planned, self.timer_at) = (false, None);
        self.plan_dial(Duration::from_millis(20), net);
        self.set(Duration::from_millis(50), Alarm::Burst, net);
        self.handle_next(net);
    }

    /// Whether it is where it wants to be, and will stay there unless something goes wrong.
    pub(super) fn is_ready(&self, net: &Net) -> bool {
        let sound = self.peer.link().is_some_and(|link| net.is_sound(link));
        self.is_subscribed() && sound
    }

    fn is_subscribed(&self) -> bool {
        let subscribed = match &self.role {
            Role::Publisher(_) => true,
            Role::Subscriber(it) => it.is_subscribed,
        };
        self.up && self.online && subscribed
    }

    /// Nothing is under way here.
    pub(super) fn is_settled(&self) -> bool {
        match &self.role {
            Role::Publisher(it) => it.is_spent() && it.is_settled(),
            Role::Subscriber(it) => it.is_settled(),
        }
    }

    pub(super) fn arrived(&mut self, link: LinkId, net: &mut Net) {
        match self.peer.arrived(link, net) {
            Arrived::Nothing => return,
            Arrived::Packets => {}
            Arrived::Ended => self.ended(net),
        }
        self.drive(net);
    }

    pub(super) fn alarm(&mut self, life: u64, alarm: Alarm, net: &mut Net) {
        if life != self.life {
            return;
        }
        match alarm {
            Alarm::Starts => return self.start(net),
            Alarm::Dials => return self.dial(net),
            Alarm::TimesOut => self.time_out(net),
            Alarm::GivesUp(link) => {
                if !self.online && self.peer.link() == Some(link) {
                    self.give_up(net);
                }
            }
            Alarm::Synced => self.synced(net),
            Alarm::Burst => self.burst(net),
            Alarm::Handled => self.handled(net),
            Alarm::Subscribes => self.subscribe(),
            Alarm::ClosesLeft => self.peer.drop_left(net),
            Alarm::Returns => {
                self.away = false;
                self.plan_dial(BACKOFF_MAX, net);
            }
        }
        self.drive(net);
    }

    /// Messages for the outbox.
    pub(super) fn insert(&mut self, rows: Vec<outbox::Row>, net: &mut Net) {
        if let Role::Publisher(it) = &mut self.role
            && self.defect == Some(Defect::PublisherAcceptsBeforeSync)
        {
            it.promise(&rows);
        }
        self.write_out(outbox::Written::Inserted(rows), net);
        self.drive(net);
    }

    /// Gives its connection up. Who it was with may not hear of it.
    pub(super) fn give_up(&mut self, net: &mut Net) -> bool {
        let able = self.peer.is_connected();
        if able {
            self.peer.reset(net);
            self.ended(net);
        }
        able
    }

    /// A second connection while the first is open.
    pub(super) fn take_over(&mut self, net: &mut Net) -> bool {
        let able = self.online && self.is_idle() && net.is_listening;
        if able {
            self.disconnected();
            self.connect(net);
            self.drive(net);
        }
        able
    }

    /// DISCONNECT, and away for a while.
    pub(super) fn leave(&mut self, away: Duration, net: &mut Net) -> bool {
        let able = self.online;
        if able {
            self.away = true;
            self.peer.session.disconnect(ReasonCode::SUCCESS, None);
            self.drive(net);
            self.set(away, Alarm::Returns, net);
        }
        able
    }

    /// Gives its filters up, and asks for them again later.
    pub(super) fn unsubscribe(&mut self, pause: Duration, net: &mut Net) -> bool {
        let RolePlan::Subscriber(SubscriberPlan { filters, .. }) = &self.plan.role else { return false };
        let able = self.is_subscribed();
        if able {
            let filters = filters.iter().map(|it| it.filter.clone()).collect();
            let _ = self.peer.session.unsubscribe(filters, Properties::default());
            if let Role::Subscriber(it) = &mut self.role {
                it.is_subscribed = false;
            }
            self.drive(net);
            self.set(pause, Alarm::Subscribes, net);
        }
        able
    }

    /// kill -9. `silently`: its machine is gone too, so that nobody closes its connection.
    pub(super) fn kill(&mut self, silently: bool, down: Duration, net: &mut Net) -> bool {
        if !self.up {
            return false;
        }
        if silently {
            self.peer.vanish(net);
        } else {
            // The system closes what was open: in order, where nothing is left to be read.
            self.peer.close(net);
            self.peer.drop_left(net);
        }
        self.life += 1;
        (self.up, self.online) = (false, false);
        if self.plan.store {
            match &mut self.role {
                Role::Publisher(it) => it.disk.crash(&mut net.random),
                Role::Subscriber(it) => it.disk.crash(&mut net.random),
            }
            self.tell(net);
        } else {
            self.forget(net);
        }
        self.set(down, Alarm::Starts, net);
        true
    }

    fn forget(&mut self, net: &mut Net) {
        net.trace.record(EventKind::StateWiped { client: self.peer.name.clone() });
        match &mut self.role {
            // A number that no other publisher has: lives are counted far below a thousand.
            Role::Publisher(it) => {
                it.forget(u32::try_from(self.peer.ix as u64 + 1_000 * self.life).unwrap_or(u32::MAX));
            }
            Role::Subscriber(it) => it.forget(),
        }
    }

    fn options(&self) -> Options {
        let acknowledge = match &self.plan.role {
            RolePlan::Subscriber(it) if it.automatic && !self.plan.store => Acknowledge::Automatic,
            _ => Acknowledge::EveryStep,
        };
        Options {
            session_expiry_interval: self.plan.session_expiry,
            keep_alive: self.plan.keep_alive,
            receive_maximum: self.plan.receive_maximum,
            in_flight_max: self.plan.in_flight_max,
            acknowledge,
            ..Options::new(self.plan.version, &*self.plan.name)
        }
    }

    /// Plans an alarm of this life.
    fn set(&self, delay: Duration, alarm: Alarm, net: &mut Net) {
        net.after(delay, Happening::Client(self.peer.ix, self.life, alarm));
    }

    fn plan_dial(&mut self, within: Duration, net: &mut Net) {
        if self.up && !self.away && !self.dial_planned {
            self.dial_planned = true;
            let delay = net.below(within);
            self.set(delay, Alarm::Dials, net);
        }
    }

    /// What an earlier connection left has to be on disk first: an acknowledgement belongs to its connection.
    fn dial(&mut self, net: &mut Net) {
        self.dial_planned = false;
        if self.peer.is_connected() || self.away {
            return;
        }
        if !net.is_listening || !self.is_idle() {
            return self.plan_dial(BACKOFF_MAX, net);
        }
        self.connect(net);
        self.drive(net);
    }

    /// A connection that is still there is left open behind.
    fn connect(&mut self, net: &mut Net) {
        if self.peer.is_connected() {
            self.set(LEFT_OPEN, Alarm::ClosesLeft, net);
        }
        self.peer.dial(net);
        if let Some(link) = self.peer.link() {
            self.set(CONNECT_TIMEOUT, Alarm::GivesUp(link), net);
        }
    }

    fn is_idle(&self) -> bool {
        match &self.role {
            Role::Publisher(_) => true,
            Role::Subscriber(it) => it.disk.is_idle(),
        }
    }

    /// What has to be sent is sent, and what there is to know is taken in.
    fn drive(&mut self, net: &mut Net) {
        loop {
            self.transmit(net);
            match self.peer.session.poll_event() {
                Some(event) => self.take(event, net),
                None => break,
            }
        }
        if self.peer.is_connected() && self.peer.session.is_closing() && !self.is_holding() {
            self.peer.finish(net);
            self.ended(net);
        }
        self.set_timer(net);
    }

    fn is_holding(&self) -> bool {
        matches!(&self.role, Role::Publisher(it) if it.is_holding())
    }

    fn transmit(&mut self, net: &mut Net) {
        self.hand_on(net);
        if !self.peer.is_connected() || self.is_holding() {
            return;
        }
        let mut packets: Vec<Packet> = std::iter::from_fn(|| self.peer.session.poll_transmit()).collect();
        if let Role::Publisher(it) = &mut self.role
            && self.plan.store
        {
            match it.hold(packets, &self.peer.session) {
                Ok(steps) => return self.write_out(steps, net),
                Err(unheld) => packets = unheld,
            }
        }
        self.peer.write(&packets, net);
    }

    fn hand_on(&mut self, net: &mut Net) {
        let Role::Publisher(it) = &mut self.role else { return };
        if self.online {
            for refused in it.hand_on(&mut self.peer.session) {
                self.write_out(outbox::Written::Settled(refused), net);
            }
        }
    }

    fn take(&mut self, event: Event, net: &mut Net) {
        match event {
            Event::Connected { session_present, .. } => self.connected(session_present, net),
            Event::Message(publish) => self.arrive(&publish, true, net),
            Event::Duplicate(publish) => self.arrive(&publish, false, net),
            Event::Released { packet_id } => {
                if let Role::Subscriber(it) = &mut self.role {
                    let released = it.release(packet_id);
                    self.write_in(released, net);
                }
            }
            Event::Completed { token, .. } => self.write_out(outbox::Written::Settled(token), net),
            Event::Subscribed(suback) => {
                if let Role::Subscriber(it) = &mut self.role
                    && it.asked.take_if(|asked| *asked == suback.packet_id).is_some()
                {
                    it.is_subscribed = true;
                }
            }
            Event::Refused(_)
            | Event::Received { .. }
            | Event::Unsubscribed(_)
            | Event::Disconnected(_)
            | Event::SessionLost { .. } => {}
        }
    }

    fn connected(&mut self, session_present: bool, net: &mut Net) {
        // A CONNECT without an answer may have begun the session that is present now.
        let doubtful = self.peer.answered();
        if std::mem::take(&mut self.anew) {
            self.peer.session.set_clean_start(false);
            // 3.1.1 cannot discard a session and begin a lasting one in one CONNECT.
            if self.plan.version == Version::V3_1_1 {
                return self.peer.session.disconnect(ReasonCode::SUCCESS, None);
            }
        }
        self.online = true;
        match &mut self.role {
            Role::Publisher(it) => {
                if !session_present {
                    let epoch = it.epoch(&self.peer.session);
                    self.write_out(outbox::Written::Began { epoch }, net);
                }
            }
            Role::Subscriber(it) if !session_present => {
                let lost = it.lose_session();
                self.write_in(lost, net);
            }
            Role::Subscriber(it) => {
                if doubtful || !it.is_subscribed || net.one_in(4) {
                    self.subscribe();
                }
            }
        }
    }

    fn subscribe(&mut self) {
        let (Role::Subscriber(it), RolePlan::Subscriber(plan)) = (&mut self.role, &self.plan.role) else {
            return;
        };
        if self.online {
            // A connection that is closing takes no request; the next one asks again.
            it.asked = self.peer.session.subscribe(plan.filters.clone(), Properties::default()).ok();
        }
    }

    fn arrive(&mut self, publish: &Publish, first: bool, net: &mut Net) {
        if self.peer_acknowledges() {
            return;
        }
        let Role::Subscriber(it) = &mut self.role else { return };
        let written = it.arrive(publish, first);
        for written in written {
            self.write_in(written, net);
        }
    }

    /// The session acknowledges by itself, and nothing is stored.
    fn peer_acknowledges(&self) -> bool {
        matches!(&self.plan.role, RolePlan::Subscriber(it) if it.automatic && !self.plan.store)
    }

    /// A transaction of the outbox; without a store it is done at once.
    fn write_out(&mut self, written: outbox::Written, net: &mut Net) {
        let Role::Publisher(it) = &mut self.role else { return };
        it.disk.write(written);
        if self.plan.store {
            let delay = net.below(self.sync_max);
            self.set(delay, Alarm::Synced, net);
        } else {
            self.synced(net);
        }
    }

    /// A transaction of the inbox; without a store the time is that of an application that acknowledges late.
    fn write_in(&mut self, written: inbox::Written, net: &mut Net) {
        let Role::Subscriber(it) = &mut self.role else { return };
        if self.defect == Some(Defect::SubscriberAcknowledgesBeforeSync)
            && let Some(packet_id) = written.acknowledges()
        {
            self.peer.session.acknowledge(packet_id);
        }
        it.disk.write(written);
        let delay = net.below(self.sync_max);
        self.set(delay, Alarm::Synced, net);
    }

    fn synced(&mut self, net: &mut Net) {
        match &mut self.role {
            Role::Publisher(it) => match it.disk.sync() {
                Some(outbox::Written::Inserted(rows)) => it.accept(rows),
                Some(outbox::Written::Stepped { hold, .. }) => {
                    let packets = it.release(hold);
                    self.peer.write(&packets, net);
                }
                Some(outbox::Written::Began { .. } | outbox::Written::Settled(_)) | None => {}
            },
            Role::Subscriber(it) => {
                match it.disk.sync() {
                    Some(inbox::Written::Released { packet_id, pubcomp: true }) => {
                        self.peer.session.complete(packet_id);
                    }
                    Some(inbox::Written::SessionLost) => self.subscribe(),
                    Some(inbox::Written::Handled(_)) => it.handling = None,
                    Some(written) => {
                        if let Some(packet_id) = written.acknowledges() {
                            self.peer.session.acknowledge(packet_id);
                        }
                    }
                    None => {}
                }
                self.tell(net);
                self.handle_next(net);
            }
        }
    }

    /// Records what the application decided, once it is durable.
    fn tell(&mut self, net: &mut Net) {
        let Role::Subscriber(it) = &mut self.role else { return };
        for (message, outcome) in it.decided() {
            // A process without a store forgets what it processed, and owes nobody an account of it.
            if self.plan.store {
                net.trace.record(EventKind::Settled { client: self.peer.name.clone(), message, outcome });
            }
        }
    }

    fn handle_next(&mut self, net: &mut Net) {
        let (Role::Subscriber(it), RolePlan::Subscriber(plan)) = (&mut self.role, &self.plan.role) else {
            return;
        };
        if it.next().is_some() {
            let delay = net.below(plan.handling_max);
            self.set(delay, Alarm::Handled, net);
        }
    }

    fn handled(&mut self, net: &mut Net) {
        let Role::Subscriber(it) = &self.role else { return };
        if let Some(message) = it.handling {
            self.write_in(inbox::Written::Handled(message), net);
        }
    }

    fn burst(&mut self, net: &mut Net) {
        let (Role::Publisher(it), RolePlan::Publisher(plan)) = (&mut self.role, &self.plan.role) else {
            return;
        };
        let rows = it.burst(&mut net.random);
        if rows.is_empty() {
            return;
        }
        let pause = net.below(plan.pause_max);
        self.set(pause, Alarm::Burst, net);
        self.insert(rows, net);
    }

    fn time_out(&mut self, net: &mut Net) {
        self.timer_at = None;
        if let Err(error) = self.peer.session.handle_timeout(time(net.now)) {
            self.peer.session.disconnect(error.reason, None);
            // 3.1.1 has no word for it: closing says it.
            if self.plan.version == Version::V3_1_1 {
                self.peer.finish(net);
                self.ended(net);
            }
        }
    }

    fn set_timer(&mut self, net: &mut Net) {
        let Some(at) = self.peer.session.poll_timeout() else { return };
        let at = net.now + Duration::from_millis(at.ms_since(time(net.now)).max(1));
        if self.timer_at.is_none_or(|planned| at < planned) {
            self.timer_at = Some(at);
            self.set(at - net.now, Alarm::TimesOut, net);
        }
    }

    fn ended(&mut self, net: &mut Net) {
        self.disconnected();
        self.plan_dial(BACKOFF_MAX, net);
    }

    fn disconnected(&mut self) {
        self.online = false;
        match &mut self.role {
            Role::Publisher(it) => it.drop_held(),
            Role::Subscriber(it) => it.asked = None,
        }
    }
}
