//! What a person would say of the call: the E-model (ITU-T G.107) with its default values, in which only delay, loss
//! and codec vary.

use siprtc_core::media::Codec;
use std::time::Duration;

/// R when nothing is wrong and all of G.107's other parameters have their default values.
const R_DEFAULT: f64 = 93.2;

/// Equipment impairment `Ie` and packet-loss robustness `Bpl`.
///
/// G.711 with concealment: ITU-T G.113 table I.1 and I.2. G.722 and Opus have no narrow-band values in G.113: they are
/// set as G.711 is (they sound better than it, which R, capped for narrow band, cannot say), Opus with less robustness
/// because a frame depends on those before it.
fn impairment(codec: Codec) -> (f64, f64) {
    match codec {
        Codec::Pcma | Codec::Pcmu => (0.0, 25.1),
        Codec::G722 => (0.0, 25.1),
        _ => (0.0, 20.0),
    }
}

/// The transmission rating factor, 0 to 100, for a one-way delay from mouth to ear and a loss from 0 to 1.
pub(crate) fn r_factor(codec: Codec, delay: Duration, loss: f64) -> f64 {
    let (equipment, robustness) = impairment(codec);
    let percent = (loss.clamp(0.0, 1.0)) * 100.0;
    // G.107 section 7.5 with BurstR = 1 (losses are independent).
    let effective = equipment + (95.0 - equipment) * percent / (percent + robustness);
    (R_DEFAULT - delay_impairment(delay) - effective).clamp(0.0, 100.0)
}

/// `Id` by the usual fit of G.107's curve (Cole and Rosenbluth, 2001), without echo.
fn delay_impairment(delay: Duration) -> f64 {
    let ms = delay.as_secs_f64() * 1_000.0;
    0.024 * ms + 0.11 * (ms - 177.3).max(0.0)
}

/// The mean opinion score of a rating factor (G.107 annex B).
pub(crate) fn mos(r: f64) -> f64 {
    match r {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.01
    }

    #[test]
    fn the_scores_are_those_of_g_107_annex_b() {
        // Table B.1's limits: "very satisfied" from R 90, "satisfied" from 80, ... "nearly all dissatisfied" below 50.
        for (r, score) in [
            (93.2, 4.41),
            (90.0, 4.34),
            (80.0, 4.03),
            (70.0, 3.60),
            (60.0, 3.10),
            (50.0, 2.58),
        ] {
            assert!(close(mos(r), score), "{r}: {}", mos(r));
        }
        assert_eq!(mos(-3.0), 1.0);
        assert_eq!(mos(120.0), 4.5);
    }

    #[test]
    fn a_call_without_delay_and_loss_has_the_default_rating() {
        assert!(close(r_factor(Codec::Pcmu, Duration::ZERO, 0.0), 93.2));
    }

    #[test]
    fn loss_costs_what_the_robustness_of_g_711_says() {
        // Ie,eff = 95 * 5 / (5 + 25.1) = 15.78
        assert!(close(r_factor(Codec::Pcma, Duration::ZERO, 0.05), 93.2 - 15.78));
    }

    #[test]
    fn delay_costs_little_until_177_ms_and_much_after() {
        assert!(close(
            r_factor(Codec::Pcmu, Duration::from_millis(100), 0.0),
            90.8
        ));
        assert!(close(
            r_factor(Codec::Pcmu, Duration::from_millis(400), 0.0),
            93.2 - 9.6 - 24.497
        ));
    }
}
