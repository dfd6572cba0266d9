mod common;
#[path = "engine/mod.rs"]
mod engine;
use siprtc_sdp_translator::*;
#[test]
fn explore() {
    let mut n = 0;
    for s in common::samples() {
        let name = &s.name;
        n += 1;
        match to_webrtc(&s.text) {
            Err(e) => println!("ERR {name} [{}] {e}", s.grade),
            Ok(t) => {
                let r = engine::block_on(async { engine::Engine::new().await.answer(&t.sdp).await });
                match r {
                    Ok(answer) => {
                        let w = answer_to_sip(&s.text, &answer);
                        println!("OK  {name} [{}] {} changes; wire {}; neg {:?}", s.grade, t.changes.len(), w.as_ref().map(|_| "ok".to_string()).unwrap_or_else(|e| e.to_string()), negotiated_audio(&answer, &s.text).map(|a| a.codec.as_str().to_string()).map_err(|e| e.to_string()));
                        if w.is_err() { println!("{}\n---\n{answer}", t.sdp); }
                    }
                    Err(e) => println!("ENGINE {name} [{}] {e}\n{}", s.grade, t.sdp),
                }
            }
        }
    }
    println!("{n}");
}
