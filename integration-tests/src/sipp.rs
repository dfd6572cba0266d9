//! SIPp (Debian package sip-tester).

use crate::folder::Folder;
use crate::process::Process;
use siprtc_core::sip::Transport;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// SIPp with these arguments, for so many calls.
pub fn start(folder: &Folder, transport: Transport, calls: usize, arguments: &[&str]) -> Process {
    let mut command = Command::new("sipp");
    command
        .args(arguments)
        .args([
            "-i",
            "127.0.0.1",
            "-nostdin",
            "-timeout",
            "90",
            "-timeout_error",
            "-trace_err",
        ])
        .args(["-t", if transport == Transport::Udp { "u1" } else { "t1" }])
        .args(["-m", &calls.to_string()])
        .current_dir(folder.path());
    Process::start("sipp", &mut command, &folder.join("sipp.log"))
}

/// Whether somebody listens there.
pub fn is_taken(address: SocketAddr, transport: Transport) -> bool {
    match transport {
        Transport::Udp => std::net::UdpSocket::bind(address).is_err(),
        _ => TcpListener::bind(address).is_err(),
    }
}
