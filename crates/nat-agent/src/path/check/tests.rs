//! Our octets, read by another's library, and RFC 5769's.

use super::*;
use proptest::prelude::*;
use rtc_stun::attributes::ATTR_XORMAPPED_ADDRESS;
use rtc_stun::crypto::default_provider;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::xoraddr::XorMappedAddress;

const ID: TransactionId = *b"transaction!";

fn keys() -> Keys {
    let side = |name: &str| IceParameters {
        ufrag: name.to_owned(),
        pwd: format!("{name}-password-of-a-fair-length"),
        lite: false,
    };
    Keys::new(&side("ours"), &side("theirs"))
}

fn read_elsewhere(data: &[u8], password: &str) -> rtc_stun::message::Message {
    let mut message = rtc_stun::message::Message::new();
    message.unmarshal_binary(data).unwrap();
    FINGERPRINT.check(&message).unwrap();
    let crypto = default_provider().unwrap();
    MessageIntegrity::check(&mut message, password.as_bytes(), crypto.crypto()).unwrap();
    message
}

#[test]
fn what_is_written_is_read_by_another_library() {
    read_elsewhere(
        &keys().request(ID, IceRole::Controlling, 7),
        "theirs-password-of-a-fair-length",
    );
    for from in ["192.0.2.1:5000", "[2001:db8::1]:65535"] {
        let from: SocketAddr = from.parse().unwrap();
        let message = read_elsewhere(&keys().success(ID, from), "ours-password-of-a-fair-length");
        let mut mapped = XorMappedAddress::default();
        mapped.get_from_as(&message, ATTR_XORMAPPED_ADDRESS).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from);
    }
    read_elsewhere(&role_conflict(ID, &keys().ours), "ours-password-of-a-fair-length");
}

#[test]
fn what_is_written_is_read_again() {
    let (keys, data) = (keys(), keys().request(ID, IceRole::Controlled, 1 << 60));
    let message = Message::read(&data).unwrap();
    assert_eq!((message.class, message.id), (Class::Request, ID));
    assert_eq!(message.role, Some((IceRole::Controlled, 1 << 60)));
    assert_eq!(message.username, Some(&b"theirs:ours"[..]));
    assert!(message.is_signed(&keys.theirs) && !message.is_signed(&keys.ours));
    let data = role_conflict(ID, &keys.ours);
    let message = Message::read(&data).unwrap();
    assert_eq!(
        (message.class, message.error),
        (Class::Error, Some(ROLE_CONFLICT))
    );
}

/// RFC 5769 section 2.1.
#[test]
fn the_request_of_the_test_vectors_is_signed() {
    const VECTOR: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
        80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
    let octet = |at| u8::from_str_radix(&VECTOR[at..at + 2], 16).unwrap();
    let data: Vec<u8> = (0..VECTOR.len()).step_by(2).map(octet).collect();
    let message = Message::read(&data).unwrap();
    assert!(message.is_signed(&key("VOkJxbRl1RmTxUk/WvJxBt")));
    assert_eq!(message.role, Some((IceRole::Controlled, 0x932f_f9b1_5126_3b36)));
}

proptest! {
    #[test]
    fn one_changed_octet_and_it_is_not_signed(at in 0_usize..56, bit in 0_u8..8) {
        let mut data = keys().request(ID, IceRole::Controlled, 9);
        data[at] ^= 1 << bit;
        prop_assert!(!Message::read(&data).is_some_and(|message| message.is_signed(&keys().theirs)));
    }

    #[test]
    fn nothing_that_comes_makes_it_panic(mut data in prop::collection::vec(any::<u8>(), 0..120), stun in any::<bool>()) {
        if stun && data.len() >= 20 {
            let length = (data.len() - 20) as u16;
            data[..2].copy_from_slice(&[0, 1]);
            data[2..4].copy_from_slice(&length.to_be_bytes());
            data[4..8].copy_from_slice(&COOKIE);
        }
        if let Some(message) = Message::read(&data) {
            message.is_signed(&keys().ours);
        }
    }
}
