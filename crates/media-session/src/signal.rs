//! Test signals and how alike two signals are.

/// A voice's stand-in: harmonics of a moving pitch, in syllables.
pub(crate) fn speech(rate: u32, seconds: f64) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..(f64::from(rate) * seconds) as usize)
        .map(|index| {
            let time = index as f64 / f64::from(rate);
            let pitch = 140.0 + 40.0 * (time * 2.1).sin() + 15.0 * (time * 7.3).sin();
            phase += std::f64::consts::TAU * pitch / f64::from(rate);
            let syllable = 0.25 + 0.75 * (time * 3.0 * std::f64::consts::PI).sin().abs();
            let harmonics: f64 = (1..12).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
            (harmonics * syllable * 7_000.0) as i16
        })
        .collect()
}

/// A sine at half of full scale.
pub(crate) fn tone(rate: u32, hz: f64, seconds: f64) -> Vec<i16> {
    (0..(f64::from(rate) * seconds) as usize)
        .map(|index| ((index as f64 * std::f64::consts::TAU * hz / f64::from(rate)).sin() * 16_000.0) as i16)
        .collect()
}

/// The highest normalised correlation of `heard` with `played` when it is up to `max_delay` samples late.
pub(crate) fn delayed_correlation(played: &[i16], heard: &[i16], max_delay: usize) -> f64 {
    (0..=max_delay)
        .map(|delay| {
            let (mut cross, mut power, mut power_heard) = (0.0, 1e-9, 1e-9);
            for (&a, &b) in played.iter().zip(heard.iter().skip(delay)) {
                let (a, b) = (f64::from(a), f64::from(b));
                cross += a * b;
                power += a * a;
                power_heard += b * b;
            }
            cross / f64::sqrt(power * power_heard)
        })
        .fold(-1.0, f64::max)
}
