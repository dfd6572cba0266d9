//! SIPp's own scenarios, caller (`uac`) and callee (`uas`), against every SIP stack with a dialog manager above it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use actix::System;
use siprtc_core::Cause;
use siprtc_core::sip::{SipUri, Transport};
use siprtc_dialog_manager::DialogEventKind;
use siprtc_integration_tests::dialogs::Dialogs;
use siprtc_integration_tests::folder::Folder;
use siprtc_integration_tests::process::Process;
use siprtc_integration_tests::sipp::{self, is_taken};
use std::net::TcpListener;
use std::time::Duration;

const CALLS: usize = 20;
/// With packets lost, every call waits for some retransmissions: RFC 3261's timers are at work.
const LIMIT: Duration = Duration::from_secs(100);
/// Percent.
const LOST: &str = "5";
/// SIPp's callee takes a BYE before the ACK for a failure: a lost ACK must have had the time to be sent again, several times.
const HOLD: Duration = Duration::from_secs(8);

fn sipp(folder: &Folder, transport: Transport, lossy: bool, arguments: &[&str]) -> Process {
    let lost: &[&str] = if lossy { &["-lost", LOST] } else { &[] };
    sipp::start(folder, transport, CALLS, &[arguments, lost].concat())
}

/// SIPp calls; every call of its must succeed.
fn uac(stack: &'static str, transport: Transport, lossy: bool) {
    System::new().block_on(async move {
        let mut dialogs = Dialogs::start(stack, transport, Duration::ZERO).await;
        let folder = Folder::new(&format!("sipp-uac-{stack}"));
        let address = dialogs.address().to_string();
        let mut caller = sipp(
            &folder,
            transport,
            lossy,
            &["-sn", "uac", &address, "-r", "30", "-d", "50"],
        );
        let status = tokio::task::spawn_blocking(move || (caller.finish(LIMIT), caller)).await;
        let (status, caller) = status.unwrap();
        assert!(status.success(), "SIPp: {status}\n{}", caller.log());
        // When its ACK and its BYE are lost, SIPp 3.6 takes the 200 of the INVITE that comes again for that of the BYE,
        // and is content: neither is sent again. In a thousand calls that happens to two or three.
        let forsaken = if lossy { 3 } else { 0 };
        expect_ends(&mut dialogs, forsaken).await;
    });
}

/// SIPp is called.
fn uas(stack: &'static str, transport: Transport, lossy: bool) {
    System::new().block_on(async move {
        let hold = if lossy { HOLD } else { Duration::from_millis(50) };
        let mut dialogs = Dialogs::start(stack, transport, hold).await;
        let folder = Folder::new(&format!("sipp-uas-{stack}"));
        // A port that is free for both transports now.
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let port = free.port().to_string();
        let mut callee = sipp(&folder, transport, lossy, &["-sn", "uas", "-p", &port]);
        callee.ready(Duration::from_secs(10), || is_taken(free, transport));
        let target = SipUri::from_addr(free)
            .with_user("sipp")
            .with_transport(transport);
        for _ in 0..CALLS {
            dialogs.call(target.clone()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        expect_ends(&mut dialogs, 0).await;
        let status = tokio::task::spawn_blocking(move || (callee.finish(LIMIT), callee)).await;
        let (status, callee) = status.unwrap();
        assert!(status.success(), "SIPp: {status}\n{}", callee.log());
    });
}

/// `forsaken`: most calls whose ACK may never have come.
async fn expect_ends(dialogs: &mut Dialogs, mut forsaken: usize) {
    for number in 0..CALLS {
        let ended = tokio::time::timeout(LIMIT, dialogs.ended.recv()).await;
        let ended = ended.unwrap_or_else(|_| panic!("only {number} of {CALLS} calls have ended"));
        match ended {
            Some(DialogEventKind::Ended {
                cause: Cause::Bye, ..
            }) => (),
            Some(DialogEventKind::Ended {
                cause: Cause::TimedOut,
                ..
            }) if forsaken > 0 => forsaken -= 1,
            other => panic!("a call ended otherwise: {other:?}"),
        }
    }
}

macro_rules! stacks {
    ($($stack:ident),*) => {$(
        mod $stack {
            use super::*;

            #[test]
            fn sipp_calls_over_udp() {
                uac(stringify!($stack), Transport::Udp, false);
            }

            #[test]
            fn sipp_calls_over_udp_and_packets_are_lost() {
                uac(stringify!($stack), Transport::Udp, true);
            }

            #[test]
            fn sipp_calls_over_tcp() {
                uac(stringify!($stack), Transport::Tcp, false);
            }

            #[test]
            fn sipp_is_called_over_udp() {
                uas(stringify!($stack), Transport::Udp, false);
            }

            #[test]
            fn sipp_is_called_over_udp_and_packets_are_lost() {
                uas(stringify!($stack), Transport::Udp, true);
            }

            #[test]
            fn sipp_is_called_over_tcp() {
                uas(stringify!($stack), Transport::Tcp, false);
            }
        }
    )*};
}

stacks!(ezk, native, rsip, rsipstack);
#[cfg(feature = "sofia")]
stacks!(sofia);
