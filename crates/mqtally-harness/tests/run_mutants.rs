//! Brokers that break one promise: the run has to provoke it, and the checker to name exactly that promise.

#![expect(clippy::print_stdout, reason = "the kill matrix is for people")]

mod support;

use mqtally_harness::nemesis::Faults;
use mqtally_harness::run::Group;
use mqtally_history::report::{Report, Severity, Verdict};
use mqtally_proto::packet::Version;
use support::mutant::{Mutant, Proxy};
use support::{Embedded, plan, play, url};

/// Plays one group on one version through the proxy and judges what came of it.
async fn judge(mutant: Mutant, group: Group, version: Version) -> (u32, Report, Vec<String>) {
    let broker = Embedded::start().await;
    let mut plan = plan(&[group]);
    plan.versions = vec![version];
    if mutant == Mutant::HandOnDup {
        plan.faults = Faults::read("cut-publisher").expect("a kind of fault");
    }
    let proxy = Proxy::start(broker.address, mutant, plan.run).await;
    let played = play(plan, url(proxy.address)).await;
    (proxy.strikes(), played.report(), played.troubles())
}

fn broken(report: &Report) -> Vec<(&'static str, Severity)> {
    let broken = report.promises.iter().filter(|promise| promise.verdict == Verdict::Broken);
    broken.map(|promise| (promise.id, promise.severity)).collect()
}

/// `promise` is broken, and nothing else of severity S1.
async fn check(mutant: Mutant, group: Group, versions: &[Version], promise: &str) {
    for version in versions {
        let (strikes, report, troubles) = judge(mutant, group, *version).await;
        let broken = broken(&report);
        let names: Vec<&str> = broken.iter().map(|(id, _)| *id).collect();
        println!("{mutant:>20?} {version:?} struck {strikes:>2} broken {names:?} troubles {troubles:?}");
        assert!(strikes > 0, "{mutant:?} never struck");
        assert!(names.contains(&promise), "{mutant:?} on {version:?}: {promise} is not broken: {report:#?}");
        // Q4 is D1 or D2 at a certain moment.
        // What a filter does not bring is missing at every QoS.
        let loses_both = mutant == Mutant::GiveUpMatching || promise == "Q4";
        let same = |id: &str| id == promise || (loses_both && matches!(id, "D1" | "D2"));
        let others = broken.iter().filter(|(id, severity)| !same(id) && *severity == Severity::S1);
        assert_eq!(others.count(), 0, "{mutant:?} on {version:?} broke {broken:?}: {:#?}", report.findings);
        assert_eq!(report.verdict, Verdict::Broken);
    }
}

const BOTH: &[Version] = &[Version::V3_1_1, Version::V5_0];
const V5: &[Version] = &[Version::V5_0];

macro_rules! mutants {
    ($($name:ident: $mutant:ident in $group:ident on $versions:ident breaks $promise:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check(Mutant::$mutant, Group::$group, $versions, $promise).await;
        })*
    };
}

mutants! {
    a_qos_1_message_dropped_after_puback_is_lost: DropQos1 in Qos on BOTH breaks "D1";
    a_qos_2_message_dropped_after_pubcomp_is_lost: DropQos2 in Qos on BOTH breaks "D2";
    a_qos_2_message_delivered_twice_is_a_duplicate: DeliverQos2Twice in Qos on BOTH breaks "D3";
    two_swapped_messages_are_out_of_order: Swap in Qos on BOTH breaks "O1";
    a_higher_qos_than_granted_is_not_the_minimum: UpgradeQos in Qos on BOTH breaks "Q1";
    a_changed_payload_is_not_intact: CorruptPayload in Qos on BOTH breaks "D8";
    swapped_user_properties_are_not_intact: SwapUserProperties in Qos on V5 breaks "D8";
    a_message_nobody_sent_is_a_phantom: Phantom in Qos on BOTH breaks "D6";
    a_topic_nobody_asked_for_is_misrouted: WrongTopic in Qos on BOTH breaks "D9";
    a_forgotten_session_is_denied: ForgetSession in Session on BOTH breaks "S2";
    a_resumed_session_that_is_denied_is_a_lie: DenySession in Session on BOTH breaks "S2";
    a_session_that_never_was_is_a_lie: InventSession in Session on BOTH breaks "S2";
    a_redelivery_without_dup_is_unmarked: ClearDup in Session on BOTH breaks "R5";
    a_redelivery_under_another_packet_id_is_another_handshake: NewPacketId in Session on BOTH breaks "R4";
    a_pubrel_that_is_not_sent_again_is_owed: ForgetPubrel in Session on BOTH breaks "R2";
    an_interval_of_disconnect_that_is_ignored_is_broken: IgnoreOverride in Session on V5 breaks "S11";
    a_retained_message_that_does_not_come_is_missing: DropRetained in Retained on BOTH breaks "T1";
    a_retained_message_without_retain_is_unmarked: ClearRetain in Retained on BOTH breaks "T2";
    a_live_message_with_retain_is_marked_wrongly: SetRetain in Retained on BOTH breaks "T3";
    a_topic_that_is_not_cleared_goes_on: KeepRetained in Retained on BOTH breaks "T4";
    a_retained_message_that_was_declined_comes_all_the_same: IgnoreRetainHandling in Retained on V5 breaks "T8";
    a_will_that_does_not_come_is_missing: DropWill in Wills on BOTH breaks "W1";
    a_will_behind_disconnect_is_unwanted: WillOnDisconnect in Wills on BOTH breaks "W2";
    a_will_that_does_not_wait_is_too_early: IgnoreWillDelay in Wills on V5 breaks "W4";
    a_message_that_outlives_its_interval_has_expired: IgnoreExpiry in Options on V5 breaks "E1";
    an_interval_that_is_not_counted_down_is_wrong: RestoreExpiry in Options on V5 breaks "E2";
    a_packet_that_is_too_large_is_too_large: IgnorePacketSize in Options on V5 breaks "E3";
    a_pingresp_that_waits_for_a_place_is_held_back: HoldPong in Options on V5 breaks "F3";
    places_that_a_new_connection_does_not_get_are_missing: KeepQuota in Options on V5 breaks "F4";
    a_place_that_is_given_back_and_not_used_is_a_deadlock: LoseQuota in Options on V5 breaks "F5";
    more_than_the_client_takes_at_a_time_is_too_much: IgnoreReceiveMaximum in Options on V5 breaks "F1";
    a_message_lost_while_its_filter_is_asked_for_again_is_lost: LoseReplaced in Qos on BOTH breaks "Q4";
    an_exchange_that_unsubscribe_ends_is_unfinished: EndExchange in Qos on BOTH breaks "Q5";
    codes_in_the_wrong_order_answer_nothing: SwapCodes in Qos on BOTH breaks "Q3";
    a_filter_that_is_kept_goes_on: KeepFilter in Qos on BOTH breaks "D10";
    a_repeated_publish_without_an_answer_is_owed_one: IgnoreRepeated in Session on BOTH breaks "R8";
    a_release_without_an_answer_is_owed_one: IgnoreRelease in Session on BOTH breaks "R9";
    a_release_that_closes_the_connection_is_no_answer: CloseOnRelease in Session on BOTH breaks "R9";
    an_acknowledgement_of_nothing_is_wrong: WrongPuback in Options on V5 breaks "R10";
    a_delivery_that_is_repeated_at_once_is_repeated_too_early: SendAgain in Session on V5 breaks "R11";
    a_takeover_that_begins_anew_loses_the_session: ForgetTakeover in Session on BOTH breaks "S10";
    a_connection_that_was_taken_over_and_stays_is_one_too_many: KeepTakenOver in Session on BOTH breaks "S9";
    a_resumed_session_without_its_filters_is_none: ForgetFilters in Session on BOTH breaks "S5";
    what_was_refused_and_comes_again_was_not_ended: RepeatRefused in Options on V5 breaks "V5";
    an_own_message_that_comes_back_is_an_echo: Echo in Options on V5 breaks "V2";
    an_alias_that_nobody_takes_is_wrong: UseAlias in Options on V5 breaks "V3";
    a_message_for_two_members_is_one_too_many: TwoMembers in Options on V5 breaks "V4";
    a_qos_2_message_that_moves_was_somebody_elses: MoveQos2 in Options on V5 breaks "D12";
    a_dup_of_the_publishers_is_not_the_subscribers: HandOnDup in Faults on BOTH breaks "R6";
    a_dup_at_qos_0_means_nothing: MarkQos0 in Qos on BOTH breaks "R6";
    what_comes_again_in_reverse_is_out_of_order: SendAgainReversed in Session on BOTH breaks "O2";
    a_place_that_is_free_at_pubrec_is_given_away_too_early: FreeAtPubrec in Options on V5 breaks "F2";
    a_session_that_ends_at_half_time_ends_too_early: ExpireEarly in Session on V5 breaks "S7";
    the_first_retained_message_is_not_the_last: KeepFirstRetained in Retained on BOTH breaks "T1";
    a_filter_that_survives_a_clean_start_goes_on: KeepFiltersAtCleanStart in Session on BOTH breaks "D11";
    a_wildcard_matches_no_level_with_a_dollar: MatchDollar in Qos on BOTH breaks "D9";
    everything_is_not_what_the_broker_says_of_itself: MatchSys in Qos on BOTH breaks "D9";
    a_pubrel_of_another_exchange_is_no_answer: WrongPubrel in Qos on BOTH breaks "R10";
    a_pubrel_that_is_sent_twice_is_sent_again_too_early: PubrelTwice in Qos on V5 breaks "R11";
    a_filter_that_was_asked_for_again_delivers_everything: LoseAskedAgain in Qos on BOTH breaks "D1";
    a_filter_that_matches_one_that_is_given_up_goes_on: GiveUpMatching in Qos on BOTH breaks "D1";
    everything_below_a_level_is_the_level_too: MissParent in Qos on BOTH breaks "D1";
    a_message_that_no_member_gets_is_lost_to_the_group: LoseShared in Options on V5 breaks "V4";
    a_message_that_is_dropped_before_its_time_is_lost: ExpireMessageEarly in Options on V5 breaks "D1";
    a_retained_message_is_sent_to_a_filter_that_is_new: IgnoreSendIfNew in Retained on V5 breaks "T1";
    a_session_that_is_resumed_without_its_options_echoes: ForgetOptions in Options on V5 breaks "V2";
    a_copy_without_its_subscription_is_not_numbered: StripIdentifiers in Options on V5 breaks "V1";
}

/// `promise` is warned of, and nothing is broken but `besides`.
async fn warned(mutant: Mutant, group: Group, versions: &[Version], promise: &str, besides: &[&str]) {
    for version in versions {
        let (strikes, report, troubles) = judge(mutant, group, *version).await;
        let warned = report.promises.iter().find(|it| it.id == promise).expect("a promise");
        println!(
            "{:>20} {version:?} struck {strikes:>2} warned of [{promise:?}] troubles {troubles:?}",
            format!("{mutant:?}")
        );
        assert!(strikes > 0, "{mutant:?} never struck");
        assert_eq!(warned.verdict, Verdict::Warn, "{:#?}", report.findings);
        assert!(broken(&report).iter().all(|(id, _)| besides.contains(id)), "{:#?}", report.findings);
    }
}

/// What the standard lets pass with tolerances of time is warned of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_that_stays_connected_is_warned_of() {
    // Its will comes while it seems to be there.
    warned(Mutant::KeepSilent, Group::Wills, BOTH, "S14", &["W1"]).await;
}

/// Servers may sweep lazily.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_does_not_expire_is_warned_of() {
    warned(Mutant::NeverExpire, Group::Session, V5, "S8", &[]).await;
}

/// At QoS 1 a copy too many is no broken promise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_copy_without_a_cause_is_warned_of() {
    warned(Mutant::DeliverQos1Twice, Group::Qos, BOTH, "D4", &[]).await;
}

/// The control: the proxy itself breaks nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_proxy_alone_every_promise_is_kept() {
    for group in Group::ALL.into_iter().filter(|group| !group.needs_restart()) {
        for version in BOTH {
            let (_, report, troubles) = judge(Mutant::None, group, *version).await;
            assert_eq!(troubles, Vec::<String>::new());
            assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
        }
    }
}

/// Lawful and odd, over sockets: whatever such a broker does to a workload, it is accused of nothing, and the run says
/// everything that it has to.
async fn lawful(mutant: Mutant, versions: &[Version]) {
    for group in Group::ALL.into_iter().filter(|group| !group.needs_restart()) {
        for version in versions {
            let (_, report, troubles) = judge(mutant, group, *version).await;
            println!("{:>20} {version:?} {:<10} {:?}", format!("{mutant:?}"), group.name(), report.verdict);
            assert_eq!(troubles, Vec::<String>::new());
            assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lawful_a_broker_may_send_one_message_at_a_time() {
    lawful(Mutant::WindowOfOne, BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lawful_a_broker_may_announce_limits_of_its_own() {
    lawful(Mutant::Announce, V5).await;
}
