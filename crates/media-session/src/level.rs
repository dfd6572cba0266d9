//! How loud a frame is, in dBov as RFC 6464 and RFC 3389 count it: 0 is a square wave of full scale.

/// The least level that RFC 6464 section 3 and RFC 3389 section 3.1 can say.
pub(crate) const SILENT_DBOV: f32 = -127.0;

/// The level of a frame in dBov, -127 to 0; RFC 6464's octet is this without its sign.
///
/// ```
/// assert_eq!(siprtc_media_session::level_dbov(&[0; 160]), -127.0);
/// assert!(siprtc_media_session::level_dbov(&[i16::MAX; 160]) > -0.01);
/// ```
#[must_use]
pub fn level_dbov(frame: &[i16]) -> f32 {
    if frame.is_empty() {
        return SILENT_DBOV;
    }
    let sum: u64 = frame
        .iter()
        .map(|&sample| u64::from(sample.unsigned_abs()).pow(2))
        .sum();
    let mean = sum as f64 / frame.len() as f64 / (32_768.0 * 32_768.0);
    if mean <= 0.0 {
        return SILENT_DBOV;
    }
    ((10.0 * mean.log10()) as f32).clamp(SILENT_DBOV, 0.0)
}

/// The root mean square of samples of this level.
pub(crate) fn rms_of(dbov: f32) -> f32 {
    if dbov <= SILENT_DBOV {
        0.0
    } else {
        32_768.0 * 10f32.powf(dbov / 20.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_of_half_scale_is_nine_db_below_the_overload() {
        let sine = crate::signal::tone(8_000, 400.0, 0.1);
        // 16000 of 32768 is -6.23 dB, and a sine's mean is 3.01 dB below its peak.
        assert!((level_dbov(&sine) + 9.24).abs() < 0.05, "{}", level_dbov(&sine));
        assert!((rms_of(-20.0) - 3_276.8).abs() < 0.1);
    }
}
