//! One trial: two agents, two places, and what comes of them.

use super::end::{End, Relay};
use crate::net::{Link, NatKind, Net, Realm};
use serde::Serialize;
use siprtc_core::Result;
use siprtc_core::ice::{IceAgentFactory, IceFeature, IceRole};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// From one side's description to the other, by way of a SIP server.
const SIGNALLING: Duration = Duration::from_millis(20);

/// A pair that has not come up by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A better pair may follow the first one.
const SETTLING: Duration = Duration::from_secs(3);

/// Where a side is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behind {
    /// In the internet.
    Nothing,
    /// Anybody may answer.
    FullCone,
    /// Whoever was written to may answer.
    Restricted,
    /// The port that was written to may answer: most homes.
    PortRestricted,
    /// Another port for each destination: many offices.
    Symmetric,
    /// A home's NAT behind a carrier's.
    Carrier,
    /// UDP does not pass.
    Firewall,
}

impl Behind {
    /// Every one.
    pub const ALL: [Behind; 7] = [
        Behind::Nothing,
        Behind::FullCone,
        Behind::Restricted,
        Behind::PortRestricted,
        Behind::Symmetric,
        Behind::Carrier,
        Behind::Firewall,
    ];

    fn nats(self) -> &'static [NatKind] {
        match self {
            Behind::Nothing | Behind::Firewall => &[],
            Behind::FullCone => &[NatKind::FULL_CONE],
            Behind::Restricted => &[NatKind::RESTRICTED],
            Behind::PortRestricted => &[NatKind::PORT_RESTRICTED],
            Behind::Symmetric => &[NatKind::SYMMETRIC],
            Behind::Carrier => &[NatKind::PORT_RESTRICTED, NatKind::PORT_RESTRICTED],
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Behind::Nothing => "none",
            Behind::FullCone => "full cone",
            Behind::Restricted => "restricted",
            Behind::PortRestricted => "port-restricted",
            Behind::Symmetric => "symmetric",
            Behind::Carrier => "carrier-grade",
            Behind::Firewall => "UDP blocked",
        })
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Where the offerer is, who controls.
    pub alice: Behind,
    /// Where the answerer is.
    pub bob: Behind,
    /// Both have a relay.
    pub relays: bool,
    /// Of both hosts; a firewall's is on top.
    pub link: Link,
    /// Of the network's chances.
    pub seed: u64,
}

/// How media goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// From peer to peer.
    Direct,
    /// By a relay.
    Relayed,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// Both sides have selected a pair, and a datagram gets through both ways. `None`: not so.
    pub path: Option<PathKind>,
    /// Until both sides had selected a pair, from when both descriptions were known.
    pub first_pair: Option<Duration>,
    /// Datagrams that the two agents had sent by the end.
    pub datagrams: u64,
}

/// What must come of it by RFC 4787 and RFC 8445: the best path that exists. `alice` and `bob`: whether the agent can
/// make use of a relay of its own.
pub fn expected(trial: &Trial, alice: bool, bob: bool) -> Option<PathKind> {
    if [trial.alice, trial.bob].contains(&Behind::Firewall) {
        return None;
    }
    if reaches(trial.alice, trial.bob) || reaches(trial.bob, trial.alice) {
        return Some(PathKind::Direct);
    }
    (trial.relays && (alice || bob)).then_some(PathKind::Relayed)
}

/// Whether a check from `from` gets to `to`'s server-reflexive candidate, and its answer back.
fn reaches(from: Behind, to: Behind) -> bool {
    match to {
        Behind::Nothing | Behind::FullCone | Behind::Restricted => true,
        // It lets in the very port that it has written to, which a symmetric NAT does not send from.
        Behind::PortRestricted | Behind::Carrier => from != Behind::Symmetric,
        // What it writes to the other side leaves from another port than the candidate.
        Behind::Symmetric | Behind::Firewall => false,
    }
}

/// Runs it: about fifteen seconds of the network's time, some milliseconds of ours.
pub fn run(alice: &dyn IceAgentFactory, bob: &dyn IceAgentFactory, trial: &Trial) -> Result<Outcome> {
    Stage::set(alice, bob, trial, [IceRole::Controlling, IceRole::Controlled])?.play()
}

/// Two sides, their network and their relays.
pub(super) struct Stage {
    pub(super) net: Net,
    relays: Vec<Relay>,
    turn: crate::net::HostId,
    pub(super) alice: End,
    pub(super) bob: End,
}

impl Stage {
    /// Both sides have gathered. Alice controls; `bobs_role` is what Bob takes himself to be.
    pub(super) fn set(
        alice: &dyn IceAgentFactory,
        bob: &dyn IceAgentFactory,
        trial: &Trial,
        [alices_role, bobs_role]: [IceRole; 2],
    ) -> Result<Self> {
        let mut net = Net::new(tokio::time::Instant::now().into_std(), trial.seed);
        let server = net.host(Realm::INTERNET, Link::default());
        let turn = net.host(Realm::INTERNET, Link::default());
        let mut place = |behind: Behind| {
            let realm = behind
                .nats()
                .iter()
                .fold(Realm::INTERNET, |outside, kind| net.nat(*kind, outside));
            let blackhole = behind == Behind::Firewall || trial.link.blackhole;
            net.host(
                realm,
                Link {
                    blackhole,
                    ..trial.link
                },
            )
        };
        let (alices_host, bobs_host) = (place(trial.alice), place(trial.bob));
        let mut stage = Stage {
            alice: End::new(&net, alice, alices_role, alices_host, "alice")?,
            bob: End::new(&net, bob, bobs_role, bobs_host, "bobby")?,
            relays: Vec::new(),
            net,
            turn,
        };
        let takes_relays =
            |factory: &dyn IceAgentFactory| factory.capability().gap(IceFeature::Relay).is_none();
        let takes_relays = [takes_relays(alice), takes_relays(bob)];
        for (number, takes_relays) in [0_u16, 1].into_iter().zip(takes_relays) {
            let (socket, host) = match number {
                0 => (stage.alice.socket, stage.alice.host),
                _ => (stage.bob.socket, stage.bob.host),
            };
            let mapped = stage.mapped(host, socket, server);
            let relay = match trial.relays && takes_relays && mapped.is_some() {
                true => Some(stage.allocate(host, socket, number)),
                false => None,
            };
            let now = stage.net.now();
            let relay = relay.map(|at| &stage.relays[at]);
            match number {
                0 => stage.alice.gather(now, mapped, relay)?,
                _ => stage.bob.gather(now, mapped, relay)?,
            }
        }
        Ok(stage)
    }

    /// What a STUN server would say; nothing when it does not hear anything.
    fn mapped(
        &mut self,
        host: crate::net::HostId,
        socket: SocketAddr,
        server: crate::net::HostId,
    ) -> Option<SocketAddr> {
        let to = SocketAddr::new(self.net.ip(server), 3478);
        for _ in 0..5 {
            self.net.send(host, socket, to, vec![0xff]);
            self.net.advance(self.net.now() + Duration::from_millis(200));
            if let Some(packet) = self.net.receive(server) {
                while self.net.receive(server).is_some() {}
                return Some(packet.from);
            }
        }
        None
    }

    /// An allocation: the relay knows the client from its first word.
    fn allocate(&mut self, host: crate::net::HostId, socket: SocketAddr, number: u16) -> usize {
        let relay = Relay::new(&self.net, self.turn, number);
        let server = relay.server;
        self.relays.push(relay);
        self.net.send(host, socket, server, vec![0xff]);
        self.advance(self.net.now() + Duration::from_millis(200));
        self.relays.len() - 1
    }

    fn play(mut self) -> Result<Outcome> {
        self.describe()?;
        let began = self.net.now();
        while self.net.now() < began + PATIENCE && !self.both_selected() {
            self.step(began + PATIENCE);
        }
        let first_pair = self
            .both_selected()
            .then(|| {
                let times = [self.alice.first_selected, self.bob.first_selected];
                times
                    .into_iter()
                    .flatten()
                    .max()
                    .map(|at| at.saturating_duration_since(began))
            })
            .flatten();
        let settled = self.net.now() + SETTLING;
        while self.net.now() < settled {
            self.step(settled);
        }
        Ok(Outcome {
            path: self.path(),
            first_pair,
            datagrams: self.alice.checks + self.bob.checks,
        })
    }

    /// The offer comes to Bob, who begins, and his answer to Alice.
    pub(super) fn describe(&mut self) -> Result<()> {
        let (parameters, candidates) = (self.alice.parameters.clone(), self.alice.candidates.clone());
        self.run_for(SIGNALLING);
        self.bob.learn(&mut self.net, &parameters, &candidates)?;
        let (parameters, candidates) = (self.bob.parameters.clone(), self.bob.candidates.clone());
        self.run_for(SIGNALLING);
        self.alice.learn(&mut self.net, &parameters, &candidates)
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.net.now() + time;
        while self.net.now() < until {
            self.step(until);
        }
    }

    pub(super) fn both_selected(&self) -> bool {
        self.alice.selected.is_some() && self.bob.selected.is_some()
    }

    /// Up to whatever happens next, at most `until`.
    pub(super) fn step(&mut self, until: Instant) {
        let now = self.net.now();
        let next = [
            self.net.next(),
            Some(self.alice.due(now)),
            Some(self.bob.due(now)),
        ];
        let next = next.into_iter().flatten().min().unwrap_or(until);
        self.advance(next.clamp(now, until));
        self.alice.work(&mut self.net);
        self.bob.work(&mut self.net);
    }

    fn advance(&mut self, until: Instant) {
        self.net.advance(until);
        while let Some(packet) = self.net.receive(self.turn) {
            for relay in &mut self.relays {
                if relay.take(&mut self.net, packet.from, packet.to, &packet.data) {
                    break;
                }
            }
        }
    }

    /// Whether what each sends over its pair arrives, and how it went.
    pub(super) fn path(&mut self) -> Option<PathKind> {
        let (Some(alices), Some(bobs)) = (self.alice.selected, self.bob.selected) else {
            return None;
        };
        self.alice.heard.clear();
        self.bob.heard.clear();
        // Several: the link may lose some.
        for _ in 0..5 {
            self.alice.send(&mut self.net, alices.0, alices.1, vec![0x80]);
            self.bob.send(&mut self.net, bobs.0, bobs.1, vec![0x80]);
        }
        self.run_for(Duration::from_millis(500));
        if self.alice.heard.is_empty() || self.bob.heard.is_empty() {
            return None;
        }
        let relayed: Vec<SocketAddr> = self.relays.iter().map(|relay| relay.relayed).collect();
        match self.alice.is_relayed(&relayed) || self.bob.is_relayed(&relayed) {
            true => Some(PathKind::Relayed),
            false => Some(PathKind::Direct),
        }
    }
}
