//! Reading the library's statistics report.

use siprtc_core::ice::{CandidateKind, CandidatePair, PairEnd};
use std::net::SocketAddr;
use std::time::Duration;
use webrtc::peer_connection::{
    PeerConnection, RTCIceCandidate, RTCIceCandidateType, RTCStatsReport, StatsSelector,
};

pub(crate) async fn report(connection: &dyn PeerConnection) -> RTCStatsReport {
    connection
        .get_stats(tokio::time::Instant::now().into_std(), StatsSelector::None)
        .await
}

/// From the ICE transport: the statistics know no remote candidate that came in an SDP or in a check.
pub(crate) async fn selected_pair(connection: &dyn PeerConnection) -> Option<CandidatePair> {
    for sender in connection.get_senders().await {
        let Ok(Some(dtls)) = sender.transport().await else {
            continue;
        };
        let pair = dtls.ice_transport().get_selected_candidate_pair().await.ok()??;
        return Some(CandidatePair {
            local: end(pair.local())?,
            remote: end(pair.remote())?,
        });
    }
    None
}

/// The last connectivity check's round trip on the selected pair.
pub(crate) fn ice_round_trip(report: &RTCStatsReport) -> Option<Duration> {
    let selected = &report.transport()?.selected_candidate_pair_id;
    let seconds = report
        .candidate_pairs()
        .find(|pair| pair.stats.id == *selected)?
        .current_round_trip_time;
    (seconds > 0.0)
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

fn end(candidate: &RTCIceCandidate) -> Option<PairEnd> {
    let kind = match candidate.typ {
        RTCIceCandidateType::Host => CandidateKind::Host,
        RTCIceCandidateType::Srflx => CandidateKind::ServerReflexive,
        RTCIceCandidateType::Prflx => CandidateKind::PeerReflexive,
        RTCIceCandidateType::Relay => CandidateKind::Relayed,
        _ => return None,
    };
    Some(PairEnd {
        kind,
        addr: SocketAddr::new(candidate.address.parse().ok()?, candidate.port),
    })
}
