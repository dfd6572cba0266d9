//! The order of SRV records (RFC 2782).

use super::Srv;
use rand::Rng;

/// By priority, and within one priority at random by weight.
pub(super) fn order(mut records: Vec<Srv>, random: &mut impl Rng) -> Vec<Srv> {
    // Those with weight 0 first, so that they have a small chance too.
    records.sort_by_key(|srv| (srv.priority, srv.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let peers = records.iter().take_while(|srv| srv.priority == priority).count();
        let chosen = choose(&records[..peers], random);
        ordered.push(records.remove(chosen));
    }
    ordered
}

/// The first whose running sum of weights reaches a number between 0 and the sum.
fn choose(peers: &[Srv], random: &mut impl Rng) -> usize {
    let sum: u64 = peers.iter().map(|srv| u64::from(srv.weight)).sum();
    let drawn = random.random_range(0..=sum);
    let mut running = 0;
    peers
        .iter()
        .position(|srv| {
            running += u64::from(srv.weight);
            running >= drawn
        })
        .unwrap_or(0)
}
