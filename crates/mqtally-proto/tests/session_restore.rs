//! A session that a process left behind, in the next one.

use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use mqtally_proto::packet::{Ack, Connack, Packet, Properties, Publish, Qos, ReasonCode, Version};
use mqtally_proto::session::{Event, Options, Session};

const NOW: Time = Time::from_ms(0);

fn message(payload: &'static str) -> Publish {
    Publish { qos: Qos::ExactlyOnce, topic: "t".into(), payload: payload.into(), ..Publish::default() }
}

/// Two messages of an earlier life: 7 was sent, 9 was released.
fn restored() -> Session {
    let options = Options {
        clean_start: false,
        resume: true,
        session_expiry_interval: 60,
        ..Options::new(Version::V5_0, "c")
    };
    let mut session = Session::new(options);
    session.restore(70, 7, Stage::Published, message("seven")).unwrap();
    session.restore(90, 9, Stage::Released, message("nine")).unwrap();
    session
}

fn connect(session: &mut Session, session_present: bool) -> Vec<Packet> {
    session.handle_opened(NOW);
    assert!(matches!(session.poll_transmit(), Some(Packet::Connect(connect)) if !connect.clean_start));
    let connack = Connack { session_present, reason: ReasonCode::SUCCESS, properties: Properties::default() };
    session.handle_packet(NOW, Packet::Connack(connack)).unwrap();
    std::iter::from_fn(|| session.poll_transmit()).collect()
}

#[test]
fn with_the_servers_session_it_goes_on_under_its_packet_ids() {
    let mut session = restored();
    assert_eq!((session.in_flight(), session.token(7), session.token(9)), (2, Some(70), Some(90)));
    let again = Publish { dup: true, packet_id: Some(7), ..message("seven") };
    assert_eq!(connect(&mut session, true), [Packet::Pubrel(Ack::success(9)), Packet::Publish(again)]);
    session.handle_packet(NOW, Packet::Pubcomp(Ack::success(9))).unwrap();
    session.poll_event(); // connected
    assert_eq!(session.poll_event(), Some(Event::Completed { token: 90, reason: ReasonCode::SUCCESS }));
    assert_eq!((session.begun(), session.in_flight(), session.token(9)), (0, 1, None));
}

#[test]
fn without_it_everything_is_new() {
    let mut session = restored();
    let sent = connect(&mut session, false);
    let expect = |id: u16, payload| Packet::Publish(Publish { packet_id: Some(id), ..message(payload) });
    let ids: Vec<u16> = sent.iter().filter_map(Packet::packet_id).collect();
    assert_eq!(sent, [expect(ids[0], "seven"), expect(ids[1], "nine")]);
    assert_eq!((session.token(ids[0]), session.token(ids[1])), (Some(70), Some(90)));
    assert_eq!(session.begun(), 1);
}

#[test]
fn a_packet_id_is_one_messages() {
    let mut session = restored();
    assert_eq!(session.restore(1, 7, Stage::Published, message("other")), Err(message("other")));
    assert_eq!(session.restore(1, 0, Stage::Published, message("other")), Err(message("other")));
    assert_eq!(session.in_flight(), 2);
}
