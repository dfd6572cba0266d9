//! What a description says of hold.

use crate::sdp::{Sdp, is_unspecified};

/// Whether whoever wrote this description wants to hear nothing for now: its first audio that is not rejected is `sendonly`
/// or `inactive` (RFC 3264 section 8.4), or has the address 0.0.0.0 without ICE, as RFC 2543 put a call on hold. `false` for
/// what is no SDP.
pub fn says_hold(sdp: &str) -> bool {
    let Ok(sdp) = Sdp::parse(sdp) else { return false };
    let Some(audio) = (sdp.media.iter()).find(|media| media.is_live() && media.media_line().media == "audio")
    else {
        return false;
    };
    let has_ice = sdp.attribute(audio, "ice-ufrag").is_some();
    let nowhere = !has_ice && sdp.connection_address(audio).is_some_and(is_unspecified);
    nowhere || !sdp.direction(audio).receives()
}

#[cfg(test)]
mod tests {
    use super::says_hold;

    fn audio(connection: &str, rest: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{connection}t=0 0\r\nm=video 0 RTP/AVP 99\r\n\
             m=audio 4000 RTP/AVP 0\r\n{rest}"
        )
    }

    const HERE: &str = "c=IN IP4 192.0.2.1\r\n";
    const NOWHERE: &str = "c=IN IP4 0.0.0.0\r\n";

    #[test]
    fn every_form_of_hold_is_one() {
        for held in ["a=sendonly\r\n", "a=inactive\r\n"] {
            assert!(says_hold(&audio(HERE, held)), "{held}");
            assert!(
                says_hold(&audio(&format!("{HERE}{held}"), "")),
                "session level {held}"
            );
        }
        assert!(says_hold(&audio(NOWHERE, "")));
    }

    #[test]
    fn what_hears_is_none() {
        for heard in ["", "a=sendrecv\r\n", "a=recvonly\r\n"] {
            assert!(!says_hold(&audio(HERE, heard)), "{heard}");
        }
        let own = audio(&format!("{HERE}a=sendonly\r\n"), "a=sendrecv\r\n");
        assert!(!says_hold(&own), "an m-line's own word counts");
        assert!(
            !says_hold(&audio(NOWHERE, "a=ice-ufrag:abcd\r\n")),
            "candidates follow"
        );
        assert!(!says_hold("theirs"));
        assert!(!says_hold(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=inactive\r\n"
        ));
    }
}
