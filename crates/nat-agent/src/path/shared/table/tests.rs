//! Whose a datagram is, in virtual time.

use super::*;
use proptest::prelude::*;

const MEDIA: [u8; 4] = [128, 0, 0, 1];

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// `kind`: 0x0001 a request, 0x0101 an answer, 0x0011 an indication.
fn stun(kind: u16, id: u8, username: Option<&str>) -> Vec<u8> {
    let mut data = kind.to_be_bytes().to_vec();
    let attribute = username.map_or_else(Vec::new, |name| {
        let mut attribute = vec![0, 6, 0, name.len() as u8];
        attribute.extend(name.as_bytes());
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    });
    data.extend((attribute.len() as u16).to_be_bytes());
    data.extend(COOKIE);
    data.extend([id; 12]);
    data.extend(attribute);
    data
}

fn request(id: u8, username: &str) -> Vec<u8> {
    stun(0x0001, id, Some(username))
}

fn answer(id: u8) -> Vec<u8> {
    stun(0x0101, id, None)
}

/// Two paths, `a` and `b` by name.
fn two() -> (Table, Instant, u64, u64) {
    let mut table = Table::default();
    let (a, b) = (table.sit().unwrap(), table.sit().unwrap());
    table.name(a, &["a".to_owned()]);
    table.name(b, &["b".to_owned()]);
    (table, tokio::time::Instant::now().into_std(), a, b)
}

#[test]
fn a_check_goes_to_whom_its_user_fragment_names() {
    let (mut table, now, a, b) = two();
    assert_eq!(table.whose(now, addr(1), &request(1, "a:x")), Some(a));
    assert_eq!(table.whose(now, addr(1), &request(2, "b:x")), Some(b));
    assert_eq!(table.whose(now, addr(1), &request(3, "ab:x")), None);
    assert_eq!(table.whose(now, addr(1), &stun(0x0001, 4, None)), None);
    assert_eq!(table.refused.strangers, 2);
}

#[test]
fn an_answer_goes_to_who_asked_and_media_to_who_has_verified_its_sender() {
    let (mut table, now, a, b) = two();
    table.ask(b, &request(7, "x:b"));
    assert_eq!(table.whose(now, addr(1), &answer(7)), Some(b));
    assert_eq!(table.whose(now, addr(1), &answer(8)), None);
    assert_eq!(table.whose(now, addr(1), &MEDIA), None);
    table.claim(now, a, addr(1));
    assert_eq!(table.whose(now, addr(1), &MEDIA), Some(a));
    assert_eq!(table.whose(now, addr(1), &stun(0x0011, 1, None)), Some(a));
    assert_eq!(table.whose(now, addr(2), &MEDIA), None);
    assert_eq!(table.refused.strangers, 3);
}

#[test]
fn an_address_is_its_holders_until_it_is_quiet() {
    let (mut table, now, a, b) = two();
    table.claim(now, a, addr(1));
    table.ask(b, &request(7, "x:b"));
    let soon = now + QUIET / 2;
    assert_eq!(table.whose(soon, addr(1), &request(1, "b:x")), None);
    assert_eq!(table.whose(soon, addr(1), &answer(7)), None);
    table.claim(soon, b, addr(1));
    assert_eq!(
        table.whose(soon, addr(1), &MEDIA),
        Some(a),
        "it is a's, and was heard"
    );
    assert_eq!(
        table.refused,
        Refused {
            strangers: 0,
            taken: 2
        }
    );
    let later = soon + QUIET;
    assert_eq!(table.whose(later, addr(1), &request(2, "b:x")), Some(b));
    table.claim(later, b, addr(1));
    assert_eq!(table.whose(later, addr(1), &MEDIA), Some(b));
    table.leave(a);
    assert_eq!(
        table.whose(later, addr(1), &MEDIA),
        Some(b),
        "what a had lost is not freed with a"
    );
}

#[test]
fn who_leaves_takes_every_entry_along() {
    let (mut table, now, a, b) = two();
    for number in 0..200 {
        table.ask(a, &request(number, "x:a"));
        table.claim(now, a, addr(1_000 + u16::from(number)));
    }
    table.ask(b, &request(250, "x:b"));
    assert_eq!(table.entries(), [2, 2, MOST_CLAIMS, MOST_ASKED + 1]);
    table.leave(a);
    assert_eq!(table.entries(), [1, 1, 0, 1]);
    table.leave(b);
    assert_eq!(table.entries(), [0; 4]);
}

#[test]
fn a_restart_is_known_by_both_names_and_then_by_the_new_one() {
    let (mut table, now, a, _) = two();
    table.name(a, &["a".to_owned(), "a2".to_owned()]);
    assert_eq!(table.whose(now, addr(1), &request(1, "a:x")), Some(a));
    assert_eq!(table.whose(now, addr(1), &request(2, "a2:x")), Some(a));
    table.name(a, &["a2".to_owned()]);
    assert_eq!(table.whose(now, addr(1), &request(3, "a:x")), None);
    assert_eq!(table.whose(now, addr(1), &request(4, "a2:x")), Some(a));
}

#[test]
fn one_path_more_than_there_may_be_is_refused() {
    let mut table = Table::default();
    let seats: Vec<u64> = (0..MOST_SEATS).map(|_| table.sit().unwrap()).collect();
    assert_eq!(table.sit(), None);
    table.leave(seats[7]);
    assert!(table.sit().is_some());
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_it_panic_or_grow(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..60),
        stun in any::<bool>(),
    ) {
        let (mut table, now, a, _) = two();
        table.claim(now, a, addr(1));
        let before = table.entries();
        for mut datagram in datagrams {
            if stun && datagram.len() > 8 {
                datagram[0] &= 3;
                datagram[4..8].copy_from_slice(&COOKIE);
            }
            table.whose(now, addr(1), &datagram);
        }
        prop_assert_eq!(table.entries(), before);
    }
}
