//! Many datagrams in one system call, each in a buffer that is never copied.

#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
mod mmsg;
#[cfg(any(
    test,
    not(any(target_os = "android", target_os = "freebsd", target_os = "linux"))
))]
mod portable;

#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
pub(crate) use mmsg::{Receiver, Sender};
#[cfg(not(any(target_os = "android", target_os = "freebsd", target_os = "linux")))]
pub(crate) use portable::{Receiver, Sender};

use crate::machine::BUFFER;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Most datagrams of one call.
pub(crate) const BATCH: usize = 32;

/// A buffer for one datagram, with room before it for what is put in front. Only the pages that are used take memory.
type Buffer = Box<[u8]>;

fn buffer() -> Buffer {
    vec![0; BUFFER].into_boxed_slice()
}

/// What a call has received.
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) length: usize,
    /// It did not fit.
    pub(crate) truncated: bool,
}

/// A UDP socket that does not block, and its family.
pub(crate) struct Port {
    pub(crate) socket: UdpSocket,
    #[allow(dead_code, reason = "only where there are batches")]
    is_v6: bool,
}

impl Port {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(Port { socket, is_v6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADROOM;

    fn pair(ip: &str) -> (Port, Port) {
        let socket = || {
            let socket = UdpSocket::bind(format!("{ip}:0")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Port::new(socket).unwrap()
        };
        (socket(), socket())
    }

    /// Both implementations are held to the same.
    macro_rules! batches {
        ($name:ident) => {
            mod $name {
                use super::super::$name::{Receiver, Sender};
                use super::*;

                #[test]
                fn what_a_sender_sends_a_receiver_receives_in_order_with_its_source() {
                    let (mut receiver, mut sender) = (Receiver::new(), Sender::new());
                    // IPv4 first: its headers must not be used for IPv6.
                    for ip in ["127.0.0.1", "[::1]"] {
                        let (here, there) = pair(ip);
                        let mut spare = buffer();
                        for octet in 0..BATCH {
                            spare[HEADROOM] = octet as u8;
                            sender.push(
                                &mut spare,
                                HEADROOM..HEADROOM + 1 + octet,
                                there.socket.local_addr().unwrap(),
                            );
                        }
                        assert!(sender.is_full());
                        assert_eq!(sender.flush(&here), 0);
                        assert!(sender.is_empty());
                        assert_eq!(receiver.receive(&there, BATCH).unwrap(), BATCH);
                        for octet in 0..BATCH {
                            let (received, buffer) = receiver.take(octet).unwrap();
                            assert_eq!(received.from, here.socket.local_addr().unwrap());
                            assert_eq!(
                                (received.length, buffer[HEADROOM]),
                                (1 + octet, octet as u8)
                            );
                            assert!(!received.truncated);
                        }
                        assert!(receiver.take(BATCH).is_none());
                        let empty = receiver.receive(&there, BATCH).unwrap_err();
                        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
                    }
                }

                #[test]
                fn one_that_cannot_be_sent_keeps_no_other_back() {
                    let (here, there) = pair("127.0.0.1");
                    let mut sender = Sender::new();
                    let mut spare = buffer();
                    for to in ["[::1]:9", "127.0.0.1:0"] {
                        sender.push(&mut spare, HEADROOM..HEADROOM + 1, to.parse().unwrap());
                        sender.push(
                            &mut spare,
                            HEADROOM..HEADROOM + 1,
                            there.socket.local_addr().unwrap(),
                        );
                    }
                    assert_eq!(sender.flush(&here), 2);
                    let mut receiver = Receiver::new();
                    assert_eq!(receiver.receive(&there, BATCH).unwrap(), 2);
                }
            }
        };
    }

    #[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
    batches!(mmsg);
    batches!(portable);
}
