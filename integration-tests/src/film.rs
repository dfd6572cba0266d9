//! Films for video calls, made and judged by ffmpeg: an encoder and a decoder that have nothing to do with what is tested.

use std::path::Path;
use std::process::Command;

/// Pictures a second.
pub const RATE: usize = 30;
/// Pictures from one key frame to the next.
pub const KEYS: usize = 30;

/// A film of a moving test picture, in a file that `siprtc` shows: `.ivf` or `.h264`.
///
/// # Panics
/// When ffmpeg is missing or fails.
pub fn shoot(path: &Path, encoder: &str, seconds: usize) {
    let picture = format!("testsrc=size=320x240:rate={RATE}:duration={seconds}");
    let keys = KEYS.to_string();
    let mut arguments = vec![
        "-f", "lavfi", "-i", &picture, "-pix_fmt", "yuv420p", "-c:v", encoder, "-g", &keys,
    ];
    match encoder {
        "libx264" => arguments.extend([
            "-profile:v",
            "baseline",
            "-x264-params",
            "scenecut=0:repeat-headers=1",
            "-b:v",
            "500k",
            "-f",
            "h264",
        ]),
        _ => arguments.extend([
            "-b:v",
            "500k",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-auto-alt-ref",
            "0",
        ]),
    }
    ffmpeg(&arguments, Some(path));
}

/// What ffmpeg decodes of a film: a checksum of each picture.
///
/// # Panics
/// When ffmpeg is missing, or finds an error in the film.
pub fn pictures(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("a path of ours is text");
    let told = ffmpeg(
        &["-xerror", "-i", path, "-vsync", "0", "-f", "framemd5", "-"],
        None,
    );
    let sums = told.lines().filter(|line| !line.starts_with('#'));
    sums.filter_map(|line| line.rsplit(',').next())
        .map(|sum| sum.trim().to_owned())
        .collect()
}

/// How many pictures of the film were seen, each as it was shown, and in order but for key frames that were asked for.
///
/// # Panics
/// When a picture is none of the film's, or comes out of order.
pub fn assert_seen(film: &Path, seen: &Path, least: usize) {
    let shown = pictures(film);
    let seen = pictures(seen);
    let number = |sum: &String| {
        shown
            .iter()
            .position(|shown| shown == sum)
            .expect("a picture of the film, undamaged")
    };
    let numbers: Vec<usize> = seen.iter().map(number).collect();
    for pair in numbers.windows(2) {
        let is_next = pair[1] == pair[0] + 1 || pair[1] % KEYS == 0;
        assert!(is_next, "{} after {}: {numbers:?}", pair[1], pair[0]);
    }
    let mut all = numbers;
    all.sort_unstable();
    all.dedup();
    println!("{} of {} pictures were seen", all.len(), shown.len());
    assert!(
        all.len() >= least,
        "{} of {} pictures, {least} wanted",
        all.len(),
        shown.len()
    );
}

fn ffmpeg(arguments: &[&str], output: Option<&Path>) -> String {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .args(output);
    let done = command
        .output()
        .expect("ffmpeg starts: integration-tests/run installs it");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ffmpeg {arguments:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
