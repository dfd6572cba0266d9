//! `siprtc devices`.

use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;
use siprtc::sound;

pub(crate) fn run(output: &Output) -> Exit {
    let devices = match sound::devices() {
        Ok(devices) => devices,
        Err(error) => return output.error(&error),
    };
    if devices.is_empty() {
        output.say("there is no sound card here");
    }
    for device in devices {
        let what = match (device.hears, device.plays) {
            (true, true) => "microphone and loudspeaker",
            (true, false) => "microphone",
            (false, true) => "loudspeaker",
            (false, false) => "neither microphone nor loudspeaker",
        };
        output.say(&format!(
            "{}  ({what})\n  {}",
            device.id,
            device.name.replace('\n', ", ")
        ));
        output.emit(json!({
            "event": "device",
            "id": device.id,
            "name": device.name,
            "microphone": device.hears,
            "loudspeaker": device.plays,
        }));
    }
    Exit::Ok
}
