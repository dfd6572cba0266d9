//! Whatever is called in whatever order, from four octets a step: for random tests and for fuzzing.

use super::{Link, Out, Rig, follow, none, request, response, tagged};
use siprtc_core::sip::{Method, SipMessage, SipRequest, TxEnd, TxId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Most transactions without a final answer.
const MAX: usize = 5;

/// Plays the steps, lets time run out, and holds against what was promised: nothing panics, what was announced ends
/// once with nothing behind its end, and nothing is left.
pub(crate) fn play(steps: &[[u8; 4]]) {
    let mut rig = Rig::with(MAX);
    let mut watch = Watch::default();
    for step in steps {
        watch.step(&mut rig, *step);
        watch.hear(&mut rig);
        assert!(rig.machine.active() <= MAX);
        assert!(!rig.machine.is_empty() || rig.machine.poll_timeout().is_none());
    }
    while let Some(at) = rig.machine.poll_timeout() {
        rig.now = rig.now.max(at);
        rig.machine.handle_timeout(rig.now);
        watch.hear(&mut rig);
    }
    assert!(rig.machine.is_empty());
    for tx in watch.asked.iter().chain(&watch.served) {
        assert!(watch.is_over(*tx), "{tx} never ended");
    }
}

/// Checks what comes out.
#[derive(Default)]
struct Watch {
    asked: Vec<TxId>,
    served: Vec<TxId>,
    refused: HashSet<TxId>,
    ended: HashMap<TxId, TxEnd>,
    cancelled: HashSet<TxId>,
}

impl Watch {
    fn step(&mut self, rig: &mut Rig, [what, which, how, path]: [u8; 4]) {
        let (now, machine) = (rig.now, &mut rig.machine);
        match what % 16 {
            0 | 1 => {
                let tx = rig.ids.mint();
                if machine.send_request(now, tx, one_of(which), link(path)).is_ok() {
                    self.asked.push(tx);
                }
            }
            2..=4 => {
                let request = match how % 4 {
                    0 => follow(&one_of(which), Method::Ack),
                    1 => follow(&one_of(which), Method::Cancel),
                    _ => one_of(which),
                };
                machine.receive(now, link(path), SipMessage::Request(request));
            }
            5..=7 => {
                let mut response = response(&one_of(which), status(how));
                if path % 4 == 0 {
                    response.headers.set("CSeq", "7 CANCEL");
                }
                machine.receive(now, link(path), SipMessage::Response(response));
            }
            8..=10 => {
                if let Some(tx) = pick(&self.served, which) {
                    // Whether it may be answered so is the machine's to say.
                    let _ = machine.respond(now, tx, tagged(&one_of(path), status(how), "bob"));
                }
            }
            11 => {
                if let Some(tx) = pick(&self.served, which) {
                    let before = machine.active();
                    machine.refuse(now, tx, 503, Some(1));
                    if machine.active() < before {
                        self.refused.insert(tx);
                    }
                }
            }
            12 => {
                if let Some(tx) = pick(&self.asked, which) {
                    let _ = machine.cancel(tx, now, &none());
                }
            }
            13 => {
                let all = [&self.asked[..], &self.served[..]].concat();
                if let Some(tx) = pick(&all, which) {
                    machine.failed(tx, "failed");
                }
            }
            14 if how == 0 => machine.end_all("all"),
            14 => machine.path_down(&|down| *down == link(path), "down"),
            _ => {
                let millis = u64::from(which) << (how % 16);
                rig.now += Duration::from_millis(millis);
                machine.handle_timeout(rig.now);
            }
        }
    }

    fn hear(&mut self, rig: &mut Rig) {
        for out in rig.outs() {
            match out {
                Out::Request(tx, _) => {
                    assert!(!self.served.contains(&tx));
                    self.served.push(tx);
                }
                Out::Response(tx, _) => assert!(self.asked.contains(&tx) && !self.is_over(tx)),
                Out::Cancelled(tx) => {
                    assert!(self.served.contains(&tx) && !self.is_over(tx) && self.cancelled.insert(tx));
                }
                Out::Ended(tx, end) => {
                    assert!((self.asked.contains(&tx) || self.served.contains(&tx)) && !self.is_over(tx));
                    self.ended.insert(tx, end);
                }
                Out::Ack(_) | Out::Asked(..) | Out::Answered(..) => (),
            }
        }
    }

    fn is_over(&self, tx: TxId) -> bool {
        self.ended.contains_key(&tx) || self.refused.contains(&tx)
    }
}

/// One of six requests, so that they meet; two of them are an old client's.
fn one_of(which: u8) -> SipRequest {
    let method = [Method::Invite, Method::Options, Method::Invite][usize::from(which) % 3].clone();
    let mut one = request(method, &(which % 6).to_string());
    if which % 6 >= 4 {
        one.headers.set("Via", "SIP/2.0/UDP 192.0.2.1");
    }
    one
}

fn link(which: u8) -> Link {
    match which % 3 {
        0 => Link::Tcp(which % 2),
        _ => Link::Udp(which % 2),
    }
}

fn status(how: u8) -> u16 {
    let usual = [100, 180, 200, 408, 486, 202];
    match usual.get(usize::from(how) % 8) {
        Some(status) => *status,
        None => 100 + u16::from(how) * 2,
    }
}

fn pick(of: &[TxId], which: u8) -> Option<TxId> {
    (!of.is_empty()).then(|| of[usize::from(which) % of.len()])
}
