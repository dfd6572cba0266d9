//! Values of attributes that count for the media: packet times and keys.

use super::{Check, Desk, attributes};
use crate::sdp::Section;
use siprtc_core::Fault;
use siprtc_sdp_words::Crypto;

pub(super) fn look(desk: &mut Desk<'_, '_>) {
    let rtp: Vec<_> = desk.live_rtp().collect();
    for (index, media) in rtp {
        packet_times(desk, index, media);
        keys(desk, index, media);
    }
}

fn packet_times(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let mut times: [Option<f64>; 2] = [None, None];
    for (time, name) in times.iter_mut().zip(["ptime", "maxptime"]) {
        let Some(text) = media.attribute(name) else {
            continue;
        };
        // Some write 20.0, and RFC 8866's grammar allows it.
        let read = text.trim().parse::<f64>().ok();
        *time = read.filter(|ms| *ms > 0.0 && *ms <= f64::from(u16::MAX));
        if time.is_none() {
            let what = format!("{text:?} is no packet time");
            desk.find(Check::PtimeInvalid, Some(index), media.position(name), what);
        }
    }
    if let [Some(wanted), Some(most)] = times
        && wanted > most
    {
        let what = format!("packets of {wanted} ms are wanted, and none longer than {most} ms");
        desk.find(Check::PtimeInvalid, Some(index), media.position("ptime"), what);
    }
}

/// A suite that is not known is passed over, and is no slip.
fn keys(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let mut tags: Vec<u32> = Vec::new();
    for (at, text) in attributes(media, "crypto") {
        let what = match text.parse::<Crypto>() {
            Ok(crypto) if tags.contains(&crypto.tag) => format!("the tag {} stands twice", crypto.tag),
            Ok(crypto) => {
                tags.push(crypto.tag);
                continue;
            }
            Err(error) if error.fault() == Fault::PeerMisbehaved => error.message().to_owned(),
            Err(_) => continue,
        };
        desk.find(Check::CryptoInvalid, Some(index), Some(at), what);
    }
}
