//! Whatever a registrar answers: no panic, no busy loop, no flood.

use super::*;
use crate::pace::Pace;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Move {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        flow: u64,
        after: u64,
    },
    End(u8),
    FlowDown(u64),
    Pong(u64, u16),
    Register,
    Unregister,
    Wait(u64),
}

fn header() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        prop_oneof![
            Just("<sip:alice@192.0.2.7:5062>".to_owned()),
            (0u32..5).prop_map(|expires| format!("<sip:alice@192.0.2.7:5062>;expires={expires}")),
            any::<u32>().prop_map(|expires| format!("<sip:alice@192.0.2.7:5062>;expires={expires}")),
            Just("*".to_owned()),
            ".{0,40}",
        ]
        .prop_map(|value| ("Contact", value)),
        any::<u32>().prop_map(|value| ("Expires", value.to_string())),
        Just(("Require", "outbound".to_owned())),
        Just(("Require", "outbound".to_owned())),
        (0u32..200).prop_map(|value| ("Flow-Timer", value.to_string())),
        prop_oneof![(0u32..100_000).prop_map(|value| value.to_string()), ".{0,10}"]
            .prop_map(|value| ("Min-Expires", value)),
        prop_oneof![any::<u32>().prop_map(|value| value.to_string()), ".{0,10}"]
            .prop_map(|value| ("Retry-After", value)),
        (any::<bool>(), 0u8..4, any::<bool>(), ".{0,20}").prop_map(|(proxy, nonce, stale, odd)| {
            let name = if proxy {
                "Proxy-Authenticate"
            } else {
                "WWW-Authenticate"
            };
            let digest = format!(r#"Digest realm="r{nonce}", nonce="{nonce}", stale={stale}, qop="auth""#);
            (name, if odd.len() % 4 == 0 { odd } else { digest })
        }),
    ]
}

fn step() -> impl Strategy<Value = Move> {
    let status = prop_oneof![
        4 => Just(200u16),
        3 => Just(401),
        2 => Just(407),
        2 => Just(423),
        2 => Just(503),
        1 => Just(439),
        2 => 100u16..700
    ];
    prop_oneof![
        12 => (status, prop::collection::vec(header(), 0..4), 0u64..3, 0u64..2)
            .prop_map(|(status, headers, flow, after)| Move::Answer { status, headers, flow, after }),
        2 => (0u8..3).prop_map(Move::End),
        2 => (0u64..3).prop_map(Move::FlowDown),
        2 => (0u64..3, 0u16..3).prop_map(|(flow, port)| Move::Pong(flow, port)),
        3 => Just(Move::Register),
        1 => Just(Move::Unregister),
        2 => (0u64..100).prop_map(Move::Wait),
    ]
}

impl Bench {
    fn play(&mut self, step: &Move) {
        let tx = self.sent.last().map(|sent| sent.tx);
        match (step, tx) {
            (
                Move::Answer {
                    status,
                    headers,
                    flow,
                    after,
                },
                Some(_),
            ) => {
                let Some(last) = self.sent.pop() else { return };
                let mut response = last.answer(*status);
                headers
                    .iter()
                    .for_each(|(name, value)| response.headers.push(*name, value));
                self.pass(Duration::from_millis(*after));
                self.respond_on(&last, response, *flow);
            }
            (Move::End(0), Some(tx)) => self.ended(tx, TxEnd::Done),
            (Move::End(1), Some(tx)) => self.ended(tx, TxEnd::TimedOut),
            (Move::End(_), Some(tx)) => self.ended(tx, TxEnd::Transport("gone".to_owned())),
            (Move::FlowDown(id), _) => self.flow_down(*id),
            (Move::Pong(flow, port), _) => self.input(Input::KeepaliveAnswered {
                id: FlowId(*flow),
                mapped: Some(SocketAddr::from(([203, 0, 113, 1], *port))),
            }),
            (Move::Register, _) => self.input(Input::Register),
            (Move::Unregister, _) => self.input(Input::Unregister),
            (Move::Wait(wait), _) => self.pass(seconds(*wait)),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 512 }))]

    #[test]
    fn random_answers_never_panic_never_loop_and_never_flood(
        steps in prop::collection::vec(step(), 1..40),
        registrars in 0usize..4,
        flows in 0usize..4,
        udp in any::<bool>(),
        keepalive in prop::option::of(1u64..60),
    ) {
        let names = ["sip:a.example.com", "sip:b.example.com", "sip:c.example.com"];
        let mut config = with_registrars(&names[..registrars]);
        config.secret = with_secret().secret;
        config.instance = Some("urn:uuid:1".to_owned());
        config.flows = flows;
        config.keepalive = keepalive.map(seconds);
        let mut bench = Bench::new(config);
        bench.transport = if udp { Transport::Udp } else { Transport::Tcp };
        bench.input(Input::Register);
        let start = bench.now;
        let mut in_place = 0;
        // The same answers over and over for a simulated hour.
        for step in steps.iter().cycle() {
            let before = bench.now;
            let answered = matches!(step, Move::Answer { .. }) && !bench.sent.is_empty();
            bench.play(step);
            bench.sent.drain(..bench.sent.len().saturating_sub(1));
            bench.events.clear();
            bench.left.clear();
            prop_assert!(bench.beats.len() <= 4 && bench.closed.len() <= 4);
            bench.beats.clear();
            bench.closed.clear();
            // What was answered may be answered again at the same instant; else time moves to the next timer.
            if !answered || bench.sent.is_empty() {
                match bench.machine.poll_timeout() {
                    Some(_) => drop(bench.sleep()),
                    None => bench.pass(seconds(1)),
                }
                let next = bench.machine.poll_timeout();
                prop_assert!(next.is_none_or(|at| at > bench.now), "a timer that is due again at once");
            }
            in_place = if bench.now > before { 0 } else { in_place + 1 };
            prop_assert!(in_place < 200, "time stands still");
            if bench.now.duration_since(start) > seconds(3600) {
                break;
            }
        }
        let elapsed = bench.now.duration_since(start).as_secs() as usize;
        prop_assert!(bench.count <= elapsed + Pace::BURST as usize, "{} requests in {elapsed} s", bench.count);
    }
}

#[test]
fn the_pace_allows_a_burst_and_then_one_each_second() {
    let start = tokio::time::Instant::now().into_std();
    let mut pace = Pace::default();
    for _ in 0..Pace::BURST {
        assert_eq!(pace.take(start), Ok(()));
    }
    let next = pace.take(start).unwrap_err();
    assert_eq!(next, start + seconds(1));
    assert_eq!(pace.take(next), Ok(()));
    assert_eq!(
        pace.take(next + Duration::from_millis(500)),
        Err(next + seconds(1))
    );
}

#[test]
fn a_registrar_that_grants_a_second_and_loses_the_nonce_each_time_is_not_flooded() {
    let (mut bench, mut last) = Bench::begun(with_secret());
    let start = bench.now;
    let mut sent = 1;
    while bench.now.duration_since(start) < seconds(3600) {
        let mut challenge = last.answer(401);
        challenge
            .headers
            .push("WWW-Authenticate", r#"Digest realm="r", nonce="n", stale=true"#);
        let mut ok = last.answer(200);
        ok.headers.push("Contact", "<sip:alice@192.0.2.7:5062>;expires=1");
        let answer = if sent % 4 == 0 { ok } else { challenge };
        bench.respond(&last, answer);
        while bench.sent.is_empty() {
            bench.sleep();
        }
        last = bench.take();
        sent += 1;
    }
    assert!((3000..=3600 + Pace::BURST as usize).contains(&sent), "{sent}");
}
