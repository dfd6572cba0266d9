//! What somebody on the way between two peers may do: everything that comes passes a socket of the test's, which adds to it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use siprtc_core::media::Discarded;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Between two peers: each sends to one of the sockets and hears from it.
struct Way {
    towards_a: UdpSocket,
    towards_b: UdpSocket,
    /// Where the two are, once their descriptions said so.
    ends: Mutex<[Option<SocketAddr>; 2]>,
    /// Media of a's that went to b.
    media: Mutex<Vec<Vec<u8>>>,
}

impl Way {
    async fn new() -> Arc<Way> {
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let way = Arc::new(Way {
            towards_a: socket().await,
            towards_b: socket().await,
            ends: Mutex::default(),
            media: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&way).carry());
        way
    }

    /// The description of one end, as if it were here.
    fn here(&self, end: usize, sdp: &str) -> String {
        let socket = [&self.towards_b, &self.towards_a][end];
        let candidate = line(sdp, "a=candidate:");
        let port = candidate.split(' ').nth(5).unwrap();
        self.ends.lock().unwrap()[end] = Some(format!("127.0.0.1:{port}").parse().unwrap());
        let moved = candidate.replace(port, &socket.local_addr().unwrap().port().to_string());
        sdp.replace(candidate, &moved)
    }

    fn end(&self, end: usize) -> SocketAddr {
        self.ends.lock().unwrap()[end].unwrap()
    }

    async fn carry(self: Arc<Self>) {
        let (mut from_a, mut from_b) = ([0; 2_048], [0; 2_048]);
        loop {
            tokio::select! {
                Ok(length) = self.towards_a.recv(&mut from_a) => {
                    let datagram = &from_a[..length];
                    if matches!(datagram, [128..=191, ..]) {
                        self.media.lock().unwrap().push(datagram.to_vec());
                    }
                    self.inject(datagram).await;
                }
                Ok(length) = self.towards_b.recv(&mut from_b) => {
                    let _ = self.towards_a.send_to(&from_b[..length], self.end(0)).await;
                }
            }
        }
    }

    /// To b, from where a is for it.
    async fn inject(&self, datagram: &[u8]) {
        let _ = self.towards_b.send_to(datagram, self.end(1)).await;
    }

    /// The last packet of audio that went to b.
    fn last(&self) -> Vec<u8> {
        let media = self.media.lock().unwrap();
        let audio = media
            .iter()
            .rev()
            .find(|packet| !(192..=223).contains(&packet[1]));
        audio.unwrap().clone()
    }
}

async fn discarded(end: &End) -> Discarded {
    // What was sent last is in the library's hand until something else comes: the next consent check, or a report.
    tokio::time::sleep(Duration::from_millis(50)).await;
    end.peer.stats().await.discarded
}

#[tokio::test]
async fn what_somebody_on_the_way_adds_is_dropped_and_counted_and_the_call_goes_on() {
    let way = Way::new().await;
    let (mut a, mut b, _, _) = connect_with(
        Setup::default(),
        Setup::default(),
        |offer| way.here(0, &offer),
        |answer| way.here(1, &answer),
    )
    .await;
    a.reaches(&mut b, 0).await;
    assert_eq!(discarded(&b).await, Discarded::default());
    // Repeated, forged, in the clear, and under a number from long ago.
    let good = way.last();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    forged[3] ^= 7;
    for packet in [&good, &good, &forged, &forged] {
        way.inject(packet).await;
    }
    a.reaches(&mut b, 0).await;
    a.reaches(&mut b, 0).await;
    assert_eq!(discarded(&b).await.refused, 4);
    // Of a thousand sources that nobody knows the library sees a few.
    for source in 0..1_000_u32 {
        let mut strange = good.clone();
        strange[8..12].copy_from_slice(&source.to_be_bytes());
        way.inject(&strange).await;
        if source % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    a.reaches(&mut b, 0).await;
    a.reaches(&mut b, 0).await;
    assert_eq!(discarded(&b).await.refused, 1_004);
    // A report in the clear that says that everything is lost: the flag of encryption is not set.
    let mut lie = vec![0x81, 201, 0, 7];
    lie.extend(&good[8..12]);
    lie.extend([0; 24]);
    lie.extend([0; 14]);
    lie[12] = 255;
    way.inject(&lie).await;
    // Headers that do not fit, and what is nothing at all.
    for first in [0x8f, 0x9f] {
        way.inject(&[&[first, 111][..], &[0xff; 30]].concat()).await;
    }
    for first in 0..=255_u8 {
        if !(128..=191).contains(&first) {
            way.inject(&[&[first][..], &[0xff; 39]].concat()).await;
        }
    }
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
    let now = discarded(&b).await;
    assert_eq!(
        (now.forged, now.malformed, now.unknown, now.refused),
        (1, 2, 128, 1_004),
        "{now:?}"
    );
    assert_eq!(b.peer.stats().await.remote_loss.filter(|loss| *loss > 0.0), None);
}
