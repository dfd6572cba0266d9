use super::words::width;
use super::*;

fn step(at: u64, layer: Layer, from: usize, to: usize, label: &str) -> Step {
    Step {
        at: Duration::from_micros(at),
        layer,
        from,
        to,
        label: label.to_owned(),
        detail: None,
    }
}

fn with(step: Step, detail: &str) -> Step {
    Step {
        detail: Some(detail.to_owned()),
        ..step
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A call as it happens: challenged once, ICE and DTLS behind the answer, media both ways past the proxy.
fn sample() -> Ladder {
    let mut ladder = Ladder::new(
        "Alice calls Bob through proxy.example.com",
        names(&["Alice", "proxy", "Bob"]),
    );
    let steps = [
        with(step(0, Layer::Sip, 0, 1, "INVITE"), "SDP offer: audio opus, PCMU"),
        step(2_130, Layer::Sip, 1, 0, "407 Proxy Authentication Required"),
        step(2_480, Layer::Sip, 0, 1, "ACK"),
        with(
            step(3_020, Layer::Sip, 0, 1, "INVITE"),
            "with Proxy-Authorization",
        ),
        step(4_900, Layer::Sip, 1, 0, "100 Trying"),
        step(5_210, Layer::Sip, 1, 2, "INVITE"),
        step(9_770, Layer::Sip, 2, 1, "180 Ringing"),
        step(11_020, Layer::Sip, 1, 0, "180 Ringing"),
        with(
            step(812_300, Layer::Sip, 2, 1, "200 OK"),
            "SDP answer: audio opus",
        ),
        step(813_900, Layer::Sip, 1, 0, "200 OK"),
        step(814_400, Layer::Sip, 0, 1, "ACK"),
        step(814_600, Layer::Ice, 0, 0, "checking"),
        step(815_800, Layer::Sip, 1, 2, "ACK"),
        step(816_100, Layer::Ice, 2, 2, "checking"),
        with(
            step(866_000, Layer::Ice, 0, 0, "connected"),
            "host 192.0.2.7:49152 ↔ srflx 198.51.100.4:40123",
        ),
        with(
            step(867_300, Layer::Ice, 2, 2, "connected"),
            "host 10.0.0.4:40123 ↔ host 192.0.2.7:49152",
        ),
        step(901_700, Layer::Dtls, 0, 0, "connected, SRTP keyed"),
        step(902_900, Layer::Dtls, 2, 2, "connected, SRTP keyed"),
        step(903_300, Layer::Rtp, 0, 2, "first RTP opus"),
        step(911_050, Layer::Rtp, 2, 0, "first RTP opus"),
        step(8_903_000, Layer::Sip, 2, 1, "BYE"),
        step(8_904_100, Layer::Sip, 1, 0, "BYE"),
        step(8_904_900, Layer::Sip, 0, 1, "200 OK"),
        step(8_906_200, Layer::Sip, 1, 2, "200 OK"),
    ];
    steps.into_iter().for_each(|step| ladder.push(step));
    ladder
}

/// The columns at which `c` stands in `line`.
fn columns_of(line: &str, c: char) -> Vec<usize> {
    line.char_indices()
        .filter(|(_, found)| *found == c)
        .map(|(at, _)| width(&line[..at]))
        .collect()
}

fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(part))
        .unwrap_or_else(|| panic!("no {part} in\n{text}"))
}

#[test]
fn arrows_point_to_the_receiver_in_both_directions() {
    let text = sample().to_text(100, false);
    let there = line(&text, " 0.0  SIP");
    assert!(there.contains("├─") && there.contains("─▶│"), "{text}");
    assert!(there.find("├").unwrap() < there.find("INVITE").unwrap());
    assert!(there.find("INVITE").unwrap() < there.find("▶").unwrap());
    let back = line(&text, "407");
    assert!(back.contains("│◀─") && back.contains("─┤"), "{text}");
    let past = line(&text, "903.3  RTP");
    assert!(
        past.contains("┼") && past.contains("▶│"),
        "it crosses the proxy's lifeline: {past}"
    );
}

#[test]
fn every_lifeline_keeps_its_column_in_every_row() {
    let mut ladder = sample();
    ladder.push(with(step(9_000_000, Layer::Sip, 0, 1, "メッセージ 😀 é"), "詳細"));
    ladder.push(step(9_100_000, Layer::Sip, 2, 2, "終わり"));
    for width in [20, 60, 80, 100, 200] {
        let text = ladder.to_text(width, false);
        let lines: Vec<_> = text.lines().collect();
        let feet = columns_of(lines.last().unwrap(), '╵');
        assert_eq!(feet.len(), 3);
        for line in &lines[5..lines.len() - 1] {
            for (index, &foot) in feet.iter().enumerate() {
                // A label too long to stand beside its sender may cover what the arrow crosses.
                if index == 1 && line.contains("RTP") {
                    continue;
                }
                let found = line
                    .char_indices()
                    .find(|(at, _)| super::words::width(&line[..*at]) == foot);
                let c = found.map(|(_, c)| c);
                assert!(
                    c.is_some_and(|c| "│├┤┼●┆".contains(c)),
                    "lifeline {index} at {foot}: {c:?}\n{text}"
                );
            }
        }
    }
}

#[test]
fn a_drawing_keeps_to_the_width_of_the_terminal_when_it_can() {
    for most in [70, 80, 100, 140] {
        let text = sample().to_text(most, false);
        for line in text.lines() {
            assert!(width(line) <= most, "{most}: {} {line}", width(line));
        }
    }
}

#[test]
fn a_long_label_is_cut_with_dots() {
    let mut ladder = Ladder::new("t", names(&["a", "b"]));
    ladder.push(step(0, Layer::Sip, 0, 1, &"long ".repeat(1000)));
    let text = ladder.to_text(60, false);
    assert!(
        text.contains('…') && text.lines().all(|line| width(line) <= 60),
        "{text}"
    );
    assert!(ladder.first[0].label.chars().count() <= Ladder::MAX_LABEL + 1);
}

#[test]
fn a_note_stands_beside_its_own_lifeline() {
    let text = sample().to_text(100, false);
    let feet = columns_of(text.lines().last().unwrap(), '╵');
    let alice = line(&text, "● checking");
    assert_eq!(columns_of(alice, '●'), [feet[0]]);
    let bob = line(&text, "checking ●");
    assert_eq!(columns_of(bob, '●'), [feet[2]]);
    let svg = sample().to_svg();
    assert_eq!(svg.matches("class=\"note ").count(), 6);
}

#[test]
fn hostile_labels_neither_break_the_xml_nor_the_terminal() {
    let mut ladder = Ladder::new("<script>&\"'", names(&["</svg>", "b"]));
    let evil = "</text><script>alert('1')</script>&amp;\u{1b}[2J\u{0}\u{202e}\u{ffff}\r\n\"";
    ladder.push(with(step(0, Layer::Sip, 0, 1, evil), evil));
    let svg = ladder.to_svg();
    assert!(!svg.contains("<script") && !svg.contains("</text><"), "{svg}");
    assert!(svg.contains("&lt;script&gt;") && svg.contains("&amp;amp;"));
    assert_eq!(svg.matches("</svg>").count(), 1);
    for out in [svg, ladder.to_text(100, false)] {
        assert!(out.chars().all(|c| c == '\n' || !c.is_control()), "{out:?}");
        assert!(!out.contains(['\u{202e}', '\u{ffff}']));
    }
    assert!(well_formed(&ladder.to_svg()));
}

#[test]
fn an_svg_is_well_formed_and_names_every_layer() {
    let svg = sample().to_svg();
    assert!(well_formed(&svg));
    for layer in Layer::ALL {
        assert!(svg.contains(&format!(">{}</text>", layer.as_str())));
    }
    assert!(svg.contains("prefers-color-scheme:dark"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn beyond_its_bound_a_ladder_keeps_both_ends_and_counts_what_is_between() {
    let mut ladder = Ladder::new("t", names(&["a", "b"]));
    for count in 0..1000u64 {
        ladder.push(step(count * 1000, Layer::Rtp, 0, 1, &format!("step {count};")));
    }
    assert_eq!(ladder.len(), 1000);
    for out in [ladder.to_text(100, false), ladder.to_svg()] {
        for there in [
            "step 0;",
            "step 199;",
            "step 800;",
            "step 999;",
            "600 steps left out",
        ] {
            assert!(out.contains(there), "{there}");
        }
        assert!(!out.contains("step 200;") && !out.contains("step 799;"));
    }
}

#[test]
fn steps_are_drawn_in_order_of_time_and_a_long_pause_is_named() {
    let mut ladder = Ladder::new("t", names(&["a", "b"]));
    ladder.push(step(3_400_000, Layer::Sip, 0, 1, "late"));
    ladder.push(step(1_000_000, Layer::Sip, 0, 1, "early"));
    let text = ladder.to_text(80, false);
    assert!(
        text.find("early").unwrap() < text.find("2.4 s later").unwrap(),
        "{text}"
    );
    assert!(
        text.find("2.4 s later").unwrap() < text.find("─ late").unwrap(),
        "{text}"
    );
}

#[test]
fn colour_is_there_when_asked_for_and_always_switched_off_again() {
    let plain = sample().to_text(100, false);
    let coloured = sample().to_text(100, true);
    assert!(!plain.contains('\x1b'));
    let mut stripped = String::new();
    for (index, part) in coloured.split("\x1b[").enumerate() {
        stripped.push_str(if index == 0 {
            part
        } else {
            part.split_once('m').unwrap().1
        });
    }
    assert_eq!(stripped, plain);
    for line in coloured.lines().filter(|line| line.contains('\x1b')) {
        assert!(line.ends_with("\x1b[0m"), "{line:?}");
    }
}

#[test]
fn odd_ladders_are_drawn_too() {
    let mut none = Ladder::new("", Vec::new());
    assert!(none.is_empty());
    none.push(with(step(0, Layer::Ice, 7, 9, ""), " "));
    let mut many = Ladder::new("t", (0..20).map(|index| format!("participant {index}")).collect());
    many.push(step(0, Layer::Sip, 0, 19, "to the last"));
    many.push(with(step(1, Layer::Sip, 19, 0, "back"), &"detail ".repeat(100)));
    let empty = Ladder::new("nothing yet", names(&["a", "b", "c"]));
    for ladder in [none, many, empty] {
        for width in [0, 1, 80, 10_000] {
            assert!(ladder.to_text(width, true).ends_with('\n'));
        }
        assert!(well_formed(&ladder.to_svg()));
    }
}

#[test]
fn words_are_measured_in_columns() {
    use super::words::{fit, wrap};
    assert_eq!(width("e\u{301}日本😀"), 7);
    assert_eq!(fit("日本語", 5), "日本…");
    assert_eq!(fit("日本語", 4), "日…");
    assert_eq!(fit("one two", 5), "one…");
    assert_eq!(wrap("one two three four", 9, 2), ["one two", "three fo…"]);
    assert_eq!(wrap("one two three four", 9, 3), ["one two", "three", "four"]);
    assert_eq!(
        wrap("host 192.0.2.7:1 ↔ host 198.51.100.4:2", 34, 2),
        ["host 192.0.2.7:1 ↔", "host 198.51.100.4:2"]
    );
}

/// Tags nest, attributes are quoted, and text holds no bare `<` or `&`.
fn well_formed(xml: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        if text
            .match_indices('&')
            .any(|(at, _)| !entities.iter().any(|entity| text[at..].starts_with(entity)))
        {
            return false;
        }
        let Some(end) = rest[start..].find('>') else {
            return false;
        };
        let tag = &rest[start + 1..start + end];
        if !tag.matches('"').count().is_multiple_of(2) {
            return false;
        }
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) if open.pop() != Some(name) => return false,
            (Some(_), _) | (None, true) => {}
            (None, false) => open.push(tag.split_whitespace().next().unwrap_or_default()),
        }
        rest = &rest[start + end + 1..];
    }
    open.is_empty()
}
