//! A media peer without media: what JSEP allows (RFC 9429 section 3.2), and what an association of ICE and DTLS holds on to.

use siprtc_core::Error;
use siprtc_core::Fault;

/// A description, as far as it matters here. On the wire it is SDP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Words {
    /// Which media peer made it.
    pub(crate) maker: u32,
    /// Its number.
    pub(crate) id: u32,
    /// The offer that it answers.
    pub(crate) answers: Option<u32>,
    pub(crate) ufrag: u32,
    pub(crate) setup: Setup,
    pub(crate) direction: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setup {
    Actpass,
    Active,
    Passive,
}

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

impl Words {
    pub(crate) fn sdp(&self) -> String {
        let Words {
            maker,
            id,
            answers,
            ufrag,
            setup,
            direction,
        } = self;
        let answers = answers.unwrap_or_default();
        format!(
            "v=0\r\no=- {id} 1 IN IP4 192.0.2.1\r\ns={maker} {id} {answers} {ufrag} {setup:?}\r\nc=IN IP4 192.0.2.1\r\n\
             t=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=ice-ufrag:{maker}-{ufrag}\r\na={direction}\r\n"
        )
    }

    pub(crate) fn read(sdp: &str) -> Words {
        let line = sdp.lines().find_map(|line| line.strip_prefix("s=")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u32>().unwrap();
        let is_said = |direction: &&str| sdp.contains(&format!("a={direction}\r\n"));
        Words {
            maker: number(0),
            id: number(1),
            answers: Some(number(2)).filter(|offer| *offer > 0),
            ufrag: number(3),
            setup: match words[4] {
                "Active" => Setup::Active,
                "Passive" => Setup::Passive,
                _ => Setup::Actpass,
            },
            direction: DIRECTIONS.into_iter().find(is_said).unwrap(),
        }
    }

    fn sends(&self) -> bool {
        matches!(self.direction, "sendrecv" | "sendonly")
    }

    fn receives(&self) -> bool {
        matches!(self.direction, "sendrecv" | "recvonly")
    }
}

/// What both sides know after an offer and its answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Agreed {
    pub(crate) ours: Words,
    pub(crate) theirs: Words,
}

impl Agreed {
    /// The offer's number and the answer's.
    pub(crate) fn numbers(&self) -> (u32, u32) {
        match self.ours.answers {
            Some(offer) => (offer, self.ours.id),
            None => (self.ours.id, self.theirs.id),
        }
    }

    fn is_active(&self) -> bool {
        self.ours.setup == Setup::Active || self.theirs.setup == Setup::Passive
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) number: u32,
    ufrag: u32,
    restarts: bool,
    pub(crate) held: bool,
    offer: Option<Words>,
    /// The first offer: forks answer it, too.
    first: Option<Words>,
    pub(crate) agreed: Option<Agreed>,
}

impl Peer {
    pub(crate) fn new(number: u32, held: bool) -> Self {
        Peer {
            number,
            ufrag: 1,
            restarts: false,
            held,
            offer: None,
            first: None,
            agreed: None,
        }
    }

    /// Another media peer of the first offer, with this answer.
    pub(crate) fn fork(&self, answer: Words) -> Self {
        let mut fork = Peer {
            offer: self.first.clone(),
            held: self.held,
            ..Peer::new(self.number, false)
        };
        fork.apply_answer(answer);
        fork
    }

    /// Whether nothing is offered that has no answer.
    pub(crate) fn has_answer(&self) -> bool {
        self.offer.is_none()
    }

    pub(crate) fn restart_ice(&mut self) {
        self.restarts = true;
    }

    /// Back to stable; credentials that nobody has agreed to are gone with the offer.
    pub(crate) fn roll_back(&mut self) {
        if self.offer.take().is_some() {
            self.ufrag = self
                .agreed
                .as_ref()
                .map_or(self.ufrag, |agreed| agreed.ours.ufrag);
        }
    }

    pub(crate) fn make_offer(&mut self, id: u32) -> Words {
        assert_eq!(self.offer, None, "an offer in have-local-offer");
        self.ufrag += u32::from(std::mem::take(&mut self.restarts));
        let words = Words {
            maker: self.number,
            id,
            answers: None,
            ufrag: self.ufrag,
            setup: Setup::Actpass,
            direction: if self.held { "sendonly" } else { "sendrecv" },
        };
        self.first.get_or_insert_with(|| words.clone());
        self.offer = Some(words.clone());
        words
    }

    pub(crate) fn make_answer(&mut self, id: u32, theirs: Words) -> Words {
        assert_eq!(self.offer, None, "an answer in have-local-offer");
        assert_ne!(
            theirs.maker, self.number,
            "our own offer comes back as the peer's"
        );
        assert_eq!(theirs.answers, None, "an answer is taken for an offer");
        let before = self.agreed.take();
        let same = before.filter(|before| before.theirs.maker == theirs.maker);
        // New credentials are answered with new ones (RFC 8445 section 9), and the roles stay (RFC 8842 section 5.5).
        let restarts = same
            .as_ref()
            .is_some_and(|same| same.theirs.ufrag != theirs.ufrag);
        self.ufrag += u32::from(restarts);
        let active = same.as_ref().is_none_or(Agreed::is_active);
        let sends = theirs.receives() && (theirs.sends() || !self.held);
        let receives = theirs.sends() && !self.held;
        let ours = Words {
            maker: self.number,
            id,
            answers: Some(theirs.id),
            ufrag: self.ufrag,
            setup: if active { Setup::Active } else { Setup::Passive },
            direction: match (sends, receives) {
                (true, true) => "sendrecv",
                (true, false) => "sendonly",
                (false, true) => "recvonly",
                (false, false) => "inactive",
            },
        };
        self.agreed = Some(Agreed {
            ours: ours.clone(),
            theirs,
        });
        ours
    }

    pub(crate) fn apply_answer(&mut self, theirs: Words) {
        let ours = self.offer.take().expect("an answer in stable");
        assert_ne!(
            theirs.maker, self.number,
            "our own description comes back as the peer's"
        );
        assert_eq!(theirs.answers, Some(ours.id), "the answer is to another offer");
        let agreed = Agreed { ours, theirs };
        let before = self.agreed.replace(agreed.clone());
        let same = before.filter(|before| before.theirs.maker == agreed.theirs.maker);
        if let Some(before) = same {
            assert_eq!(
                before.is_active(),
                agreed.is_active(),
                "DTLS roles change within an association"
            );
        }
    }
}

pub(crate) fn failure(theirs: bool) -> Error {
    let fault = if theirs {
        Fault::PeerIncompatible
    } else {
        Fault::Backend
    };
    Error::new(fault, "duel", "this step fails").advice("nothing to do")
}
