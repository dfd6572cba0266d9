use super::*;

const US: u32 = 1;
const THEM: u32 = 2;

fn pair() -> (Reports, Reports, Instant) {
    let start = tokio::time::Instant::now().into_std();
    let ours = Reports::new(
        start,
        UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        US,
        "us".to_owned(),
    );
    let theirs = Reports::new(
        start,
        UNIX_EPOCH + Duration::from_secs(5),
        THEM,
        "them".to_owned(),
    );
    (ours, theirs, start)
}

fn at(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// One packet from us to them, 20 ms of G.711, `late` milliseconds on its way.
fn packet(ours: &mut Reports, theirs: &mut Reports, start: Instant, number: u16, late: u64) {
    let sent = 20 * u64::from(number);
    let timestamp = 160 * u32::from(number);
    ours.rtp_sent(at(start, sent), 0, timestamp, 160);
    theirs.rtp_received(at(start, sent + late), US, 0, (number, timestamp), 160);
}

fn blocks(report: &[Box<dyn rtc_rtcp::Packet>]) -> Vec<ReceptionReport> {
    let first = report[0].as_any();
    first
        .downcast_ref::<SenderReport>()
        .map(|report| report.reports.clone())
        .or(first
            .downcast_ref::<ReceiverReport>()
            .map(|report| report.reports.clone()))
        .unwrap()
}

#[test]
fn a_report_every_second_begins_with_the_first_packet() {
    let (mut ours, _, start) = pair();
    assert_eq!(ours.poll_timeout(), None);
    ours.rtp_sent(start, 0, 0, 160);
    assert_eq!(ours.poll_timeout(), Some(at(start, 1000)));
    assert!(ours.handle_timeout(at(start, 999)).is_none());
    assert!(ours.handle_timeout(at(start, 1000)).is_some());
    assert_eq!(ours.poll_timeout(), Some(at(start, 2000)));
}

#[test]
fn who_sends_writes_a_sender_report_and_who_does_not_a_receiver_report_each_with_a_cname() {
    let (mut ours, mut theirs, start) = pair();
    packet(&mut ours, &mut theirs, start, 0, 10);
    packet(&mut ours, &mut theirs, start, 1, 10);
    let report = ours.handle_timeout(at(start, 1000)).unwrap();
    let sender = report[0].as_any().downcast_ref::<SenderReport>().unwrap();
    assert_eq!((sender.packet_count, sender.octet_count), (2, 320));
    // 980 ms after the last packet, whose timestamp was 160.
    assert_eq!(sender.rtp_time, 160 + 980 * 8);
    assert!(report[1].as_any().is::<SourceDescription>());
    assert!(
        ours.handle_timeout(at(start, 2000)).unwrap()[0]
            .as_any()
            .is::<ReceiverReport>()
    );
    assert!(
        theirs.handle_timeout(at(start, 1010)).unwrap()[0]
            .as_any()
            .is::<ReceiverReport>()
    );
}

#[test]
fn loss_and_jitter_come_back_in_a_receiver_report() {
    let (mut ours, mut theirs, start) = pair();
    for number in 0..50 {
        if number % 5 == 3 {
            ours.rtp_sent(at(start, 20 * u64::from(number)), 0, 0, 160);
        } else {
            packet(
                &mut ours,
                &mut theirs,
                start,
                number,
                if number % 2 == 0 { 10 } else { 20 },
            );
        }
    }
    let report = theirs.handle_timeout(at(start, 1010)).unwrap();
    ours.rtcp_received(at(start, 1020), &report);
    let view = ours.remote().unwrap();
    assert!((view.loss - 0.2).abs() < 0.01, "{view:?}");
    let jitter = view.jitter.unwrap();
    assert!(
        jitter > Duration::from_millis(4) && jitter < Duration::from_millis(10),
        "{jitter:?}"
    );
    assert_eq!(blocks(&report)[0].total_lost, 10);
}

#[test]
fn blocks_inside_a_sender_report_count_and_tell_the_round_trip() {
    let (mut ours, mut theirs, start) = pair();
    packet(&mut ours, &mut theirs, start, 0, 30);
    let report = ours.handle_timeout(at(start, 1000)).unwrap();
    // 30 ms there, held for 500 ms, 30 ms back.
    theirs.rtcp_received(at(start, 1030), &report);
    theirs.rtp_sent(at(start, 1100), 0, 0, 160);
    let report = theirs.handle_timeout(at(start, 1530)).unwrap();
    assert!(report[0].as_any().is::<SenderReport>());
    ours.rtcp_received(at(start, 1560), &report);
    let round_trip = ours.remote().unwrap().round_trip.unwrap();
    assert!(
        round_trip.abs_diff(Duration::from_millis(60)) < Duration::from_millis(1),
        "{round_trip:?}"
    );
}

#[test]
fn a_new_stream_of_the_peers_is_reported_and_a_silent_one_is_not() {
    let (mut ours, _, start) = pair();
    ours.rtp_received(start, 10, 0, (1, 0), 160);
    assert_eq!(blocks(&ours.handle_timeout(at(start, 1000)).unwrap())[0].ssrc, 10);
    ours.rtp_received(at(start, 1100), 11, 0, (500, 0), 160);
    let second = blocks(&ours.handle_timeout(at(start, 2000)).unwrap());
    assert_eq!(second.iter().map(|block| block.ssrc).collect::<Vec<_>>(), [11]);
    assert_eq!(second[0].total_lost, 0);
}

#[test]
fn many_streams_are_bounded_and_the_longest_silent_goes() {
    let (mut ours, _, start) = pair();
    for ssrc in 0..100 {
        ours.rtp_received(at(start, u64::from(ssrc)), ssrc, 0, (1, 0), 160);
    }
    let mut left: Vec<u32> = blocks(&ours.handle_timeout(at(start, 1000)).unwrap())
        .iter()
        .map(|block| block.ssrc)
        .collect();
    left.sort_unstable();
    assert_eq!(left, [96, 97, 98, 99]);
    assert_eq!(ours.received().packets, 100);
}

#[test]
fn sequence_numbers_wrap_and_restart_without_loss() {
    let (mut ours, _, start) = pair();
    for (number, sequence) in [65_534, 65_535, 0, 1, 30_000, 30_001].into_iter().enumerate() {
        let at = at(start, 20 * number as u64);
        ours.rtp_received(at, THEM, 0, (sequence, 160 * number as u32), 160);
        if sequence == 1 {
            let block = ours.sources[0].block(at).unwrap();
            assert_eq!((block.total_lost, block.last_sequence_number), (0, 65_537));
        }
    }
    let block = ours.sources[0].block(start).unwrap();
    assert_eq!((block.total_lost, block.fraction_lost), (0, 0));
}

#[test]
fn telephone_event_tells_nothing_about_jitter() {
    let (mut ours, _, start) = pair();
    ours.set_clock_rates([(101, 0)]);
    for number in 0..10_u16 {
        ours.rtp_received(at(start, 50 * u64::from(number)), THEM, 101, (number, 77), 4);
    }
    assert_eq!(ours.sources[0].block(start).unwrap().jitter, 0);
}

#[test]
fn a_report_from_nowhere_makes_no_absurd_round_trip() {
    let (mut ours, _, start) = pair();
    ours.rtp_sent(start, 0, 0, 160);
    for (last_sender_report, delay) in [(1, u32::MAX), (u32::MAX, 1), (0, 0), (0x8000_0000, 0x7fff_ffff)] {
        let block = ReceptionReport {
            ssrc: US,
            fraction_lost: 255,
            jitter: u32::MAX,
            last_sender_report,
            delay,
            ..Default::default()
        };
        let report = ReceiverReport {
            ssrc: THEM,
            reports: vec![block],
            profile_extensions: Bytes::new(),
        };
        ours.rtcp_received(at(start, 100), &[Box::new(report)]);
        let view = ours.remote().unwrap();
        assert!(
            view.round_trip.is_none_or(|time| time <= MAX_ROUND_TRIP),
            "{view:?}"
        );
        assert!(view.loss < 1.0);
    }
}
