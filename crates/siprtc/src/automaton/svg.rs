//! The automaton as an SVG: SIP states from left to right, JSEP states from top to bottom, each pair in the cell where they meet.

use super::{Automaton, State, Way, words};
use crate::ladder::svg::{escape, length};
use siprtc_gateway::table::{Jsep, Sip};
use std::fmt::Write;

/// The columns: a call begins at the left, as caller or as callee, and ends at the right.
fn column(sip: Sip) -> usize {
    match sip {
        Sip::ProgressedOffered => 0,
        Sip::Progressed => 1,
        Sip::Progressing => 2,
        Sip::Incoming => 3,
        Sip::Accepting => 4,
        Sip::Idle => 5,
        Sip::Inviting => 6,
        Sip::Early => 7,
        Sip::EarlyOffering => 8,
        Sip::EarlyOffered => 9,
        Sip::Confirmed => 10,
        Sip::ReInviting => 11,
        Sip::ReOffered => 12,
        Sip::Ending => 13,
        Sip::Ended => 14,
    }
}

/// The rows: what is done for an offer of ours at the top, for one of the peer's at the bottom.
fn row(jsep: Jsep) -> usize {
    match jsep {
        Jsep::MakingOffer => 0,
        Jsep::HaveLocalOffer => 1,
        Jsep::ApplyingAnswer => 2,
        Jsep::Stable => 3,
        Jsep::MakingAnswer => 4,
        Jsep::Screening => 5,
        Jsep::Closing => 2,
        Jsep::Closed => 4,
    }
}

#[derive(Clone, Copy, Debug)]
struct Point(f64, f64);

#[derive(Clone, Copy, Debug)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Area {
    fn around(middle: Point, width: f64, height: f64) -> Self {
        Area {
            x: middle.0 - width / 2.0,
            y: middle.1 - height / 2.0,
            width,
            height,
        }
    }

    fn middle(&self) -> Point {
        Point(self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    fn holds(&self, point: Point, margin: f64) -> bool {
        let within = |at: f64, from: f64, size: f64| at > from - margin && at < from + size + margin;
        within(point.0, self.x, self.width) && within(point.1, self.y, self.height)
    }

    fn shared_with(&self, other: &Area) -> f64 {
        let shared =
            |a: f64, a_size: f64, b: f64, b_size: f64| ((a + a_size).min(b + b_size) - a.max(b)).max(0.0);
        shared(self.x, self.width, other.x, other.width) * shared(self.y, self.height, other.y, other.height)
    }
}

/// A quadratic curve between two boxes.
struct Curve {
    points: Vec<Point>,
}

impl Curve {
    fn new(from: &Area, to: &Area, bulge: f64) -> Self {
        let (a, b) = (from.middle(), to.middle());
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let far = dx.hypot(dy).max(1.0);
        let control = Point(
            (a.0 + b.0) / 2.0 - dy / far * bulge,
            (a.1 + b.1) / 2.0 + dx / far * bulge,
        );
        let at = |t: f64| {
            let u = 1.0 - t;
            Point(
                u * u * a.0 + 2.0 * u * t * control.0 + t * t * b.0,
                u * u * a.1 + 2.0 * u * t * control.1 + t * t * b.1,
            )
        };
        let points = (0..=STEPS).map(|step| at(f64::from(step) / f64::from(STEPS)));
        // What is inside of the two boxes is not drawn; the tip stops short of its box.
        let points = points
            .filter(|point| !from.holds(*point, 0.0) && !to.holds(*point, 4.0))
            .collect();
        Curve { points }
    }

    fn at(&self, part: f64) -> Option<Point> {
        let last = self.points.len().checked_sub(1)?;
        self.points.get((part * last as f64) as usize).copied()
    }

    /// How much of it lies under a label.
    fn under(&self, label: &Area) -> f64 {
        self.points
            .iter()
            .filter(|point| label.holds(**point, 1.0))
            .count() as f64
    }

    /// How much of it runs close to another.
    fn beside(&self, other: &Curve) -> f64 {
        let near = |point: &&Point| {
            let close = |there: &Point| (there.0 - point.0).hypot(there.1 - point.1) < 7.0;
            other.points.iter().step_by(3).any(close)
        };
        self.points.iter().step_by(3).filter(near).count() as f64 * 1.5
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for (index, point) in self
            .points
            .iter()
            .step_by(4)
            .chain(self.points.last())
            .enumerate()
        {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.0} {:.0}", point.0, point.1);
        }
        path
    }
}

/// A way as it is drawn.
struct Drawn {
    curve: Curve,
    label: Area,
    lines: Vec<String>,
    to_end: bool,
}

impl Automaton {
    /// The drawing as one SVG document that needs nothing else.
    pub fn to_svg(&self) -> String {
        let sheet = Sheet::new(self);
        let drawn = sheet.ways(self);
        let mut body = String::new();
        sheet.heads(&mut body);
        for way in &drawn {
            let class = if way.to_end { "way end" } else { "way" };
            let _ = writeln!(
                body,
                "<path class=\"{class}\" d=\"{}\" marker-end=\"url(#tip)\"/>",
                way.curve.path()
            );
        }
        for state in &self.states {
            sheet.state(self, *state, &mut body);
        }
        for way in &drawn {
            label(way, &mut body);
        }
        let bottom = sheet.footer(&mut body);
        let width = sheet.width();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {bottom}\" width=\"{width}\" \
             height=\"{bottom}\" role=\"img\" aria-label=\"{TITLE}\">\n<title>{TITLE}</title>\n<style>{STYLE}</style>\n\
             <defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"8\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L10 5L0 10Z\" fill=\"#59636e\"/></marker></defs>\n\
             <rect width=\"{width}\" height=\"{bottom}\" rx=\"10\" fill=\"#ffffff\" stroke=\"#d1d9e0\"/>\n{body}</svg>\n"
        )
    }
}

struct Sheet {
    boxes: Vec<(State, Area)>,
}

impl Sheet {
    fn new(automaton: &Automaton) -> Self {
        let place = |state: &State| {
            let middle = Point(
                PAD + CELL.0 * (column(state.0) as f64 + 0.5),
                TOP + CELL.1 * (row(state.1) as f64 + 0.5),
            );
            let loops = automaton.loops(*state).len() as f64;
            (*state, Area::around(middle, BOX, 40.0 + loops * LINE))
        };
        Sheet {
            boxes: automaton.states.iter().map(place).collect(),
        }
    }

    fn width(&self) -> f64 {
        PAD * 2.0 + CELL.0 * 10.0
    }

    fn area(&self, state: State) -> Option<&Area> {
        self.boxes
            .iter()
            .find(|(one, _)| *one == state)
            .map(|(_, area)| area)
    }

    fn heads(&self, out: &mut String) {
        let _ = writeln!(out, "<text class=\"title\" x=\"{PAD}\" y=\"36\">{TITLE}</text>");
        for sip in Sip::ALL {
            let x = PAD + CELL.0 * (column(*sip) as f64 + 0.5);
            let _ = writeln!(
                out,
                "<rect class=\"lane\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\"/>",
                x - CELL.0 / 2.0 + 3.0,
                TOP - 36.0,
                CELL.0 - 6.0,
                CELL.1 * 6.0 + 40.0
            );
            let _ = writeln!(
                out,
                "<text class=\"head\" x=\"{x}\" y=\"{}\">{sip:?}<title>{}</title></text>",
                TOP - 14.0,
                escape(sip.meaning())
            );
        }
    }

    /// Each way where it is least in the way of the others, the short ones first.
    fn ways(&self, automaton: &Automaton) -> Vec<Drawn> {
        let far = |way: &&Way| {
            let areas = (self.area(way.from), self.area(way.to));
            let (Some(from), Some(to)) = areas else { return 0 };
            let (a, b) = (from.middle(), to.middle());
            (a.0 - b.0).hypot(a.1 - b.1) as u64
        };
        let mut ways: Vec<&Way> = automaton.ways.iter().filter(|way| way.from != way.to).collect();
        ways.sort_by_key(far);
        let mut drawn = Vec::new();
        for way in ways {
            let best = BULGES
                .into_iter()
                .filter_map(|bulge| self.best(way, bulge, &drawn))
                .min_by(|(a, _), (b, _)| a.total_cmp(b));
            drawn.extend(best.map(|(_, one)| one));
        }
        drawn
    }

    /// The best place of the label on one curve, and what the two cost.
    fn best(&self, way: &Way, bulge: f64, drawn: &[Drawn]) -> Option<(f64, Drawn)> {
        let curve = Curve::new(self.area(way.from)?, self.area(way.to)?, bulge);
        let lines: Vec<String> = words(way, "\n").lines().map(str::to_owned).collect();
        let longest = lines.iter().map(|line| length(line, SMALL)).fold(0.0, f64::max);
        let (width, height) = (longest + 8.0, lines.len() as f64 * LINE + 3.0);
        let labels = PARTS
            .into_iter()
            .filter_map(|part| Some(Area::around(curve.at(part)?, width, height)));
        let (cost, label) = labels
            .map(|label| (self.cost_of_label(&label, drawn), label))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let one = Drawn {
            label,
            lines,
            to_end: matches!(way.to.0, Sip::Ending | Sip::Ended),
            curve,
        };
        Some((cost + self.cost_of_curve(&one.curve, bulge, drawn), one))
    }

    /// How much a curve would be in the way.
    fn cost_of_curve(&self, curve: &Curve, bulge: f64, drawn: &[Drawn]) -> f64 {
        let lanes = Area {
            x: PAD,
            y: TOP,
            width: self.width() - PAD * 2.0,
            height: CELL.1 * 6.0,
        };
        let on_box = |point: &Point| self.boxes.iter().any(|(_, area)| area.holds(*point, 6.0));
        let mut cost = bulge.abs() * 0.12;
        for point in &curve.points {
            cost += if on_box(point) { 40.0 } else { 0.0 };
            cost += if lanes.holds(*point, 0.0) { 0.0 } else { 20.0 };
        }
        for other in drawn {
            cost += curve.under(&other.label) * 3.0;
            cost += curve.beside(&other.curve);
        }
        cost
    }

    fn cost_of_label(&self, label: &Area, drawn: &[Drawn]) -> f64 {
        let boxes = self.boxes.iter().map(|(_, area)| label.shared_with(area) * 4.0);
        let others = drawn
            .iter()
            .map(|other| label.shared_with(&other.label) * 6.0 + other.curve.under(label) * 3.0);
        boxes.sum::<f64>() + others.sum::<f64>()
    }

    fn state(&self, automaton: &Automaton, state: State, out: &mut String) {
        let Some(area) = self.area(state) else { return };
        let Point(x, _) = area.middle();
        let class = match state.0 {
            Sip::Ending | Sip::Ended => "state over",
            _ if state.1 == Jsep::Stable => "state rest",
            _ => "state",
        };
        let begins = state == (Sip::Idle, Jsep::Stable);
        let meaning = format!("{} {}", state.0.meaning(), state.1.meaning());
        let _ = writeln!(
            out,
            "<g><title>{}</title><rect class=\"{class}{}\" x=\"{:.0}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{:.0}\" rx=\"9\"/>",
            escape(&meaning),
            if begins { " first" } else { "" },
            area.x,
            area.y,
            area.width,
            area.height
        );
        let _ = writeln!(
            out,
            "<text class=\"sip\" x=\"{x:.0}\" y=\"{:.0}\">{:?}</text>",
            area.y + 17.0,
            state.0
        );
        let _ = writeln!(
            out,
            "<text class=\"jsep\" x=\"{x:.0}\" y=\"{:.0}\">{:?}</text>",
            area.y + 32.0,
            state.1
        );
        for (index, word) in automaton.loops(state).iter().enumerate() {
            let y = area.y + 45.0 + index as f64 * LINE;
            let _ = writeln!(
                out,
                "<text class=\"loop\" x=\"{x:.0}\" y=\"{y:.0}\">\u{21ba} {word}</text>"
            );
        }
        out.push_str("</g>\n");
    }

    /// What every state has; says where the sheet ends.
    fn footer(&self, out: &mut String) -> f64 {
        let mut y = TOP + CELL.1 * 6.0 + 34.0;
        let mut line = |text: &str| {
            let _ = writeln!(
                out,
                "<text class=\"foot\" x=\"{PAD}\" y=\"{y:.0}\">{}</text>",
                escape(text)
            );
            y += 20.0;
        };
        for (to, events) in Automaton::common() {
            let events: Vec<String> = events.iter().map(|on| format!("{on:?}")).collect();
            line(&format!(
                "From every state that is not at its end, without an arrow: {} to {:?} {:?}.",
                events.join(", "),
                to.0,
                to.1
            ));
        }
        line(
            "\u{21ba} stays where it is. An upper word is the dialog's state, a lower one the media peer's; the call begins where the frame is thick.",
        );
        y
    }
}

impl Automaton {
    /// What happens in a state and leaves it as it is.
    fn loops(&self, state: State) -> Vec<String> {
        let stays = self.ways.iter().find(|way| (way.from, way.to) == (state, state));
        stays.map_or_else(Vec::new, |way| {
            words(way, "\n").lines().map(str::to_owned).collect()
        })
    }
}

fn label(way: &Drawn, out: &mut String) {
    let Area { x, y, width, height } = way.label;
    let class = if way.to_end { "event end" } else { "event" };
    let _ = writeln!(
        out,
        "<rect class=\"under\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"4\"/>"
    );
    for (index, line) in way.lines.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text class=\"{class}\" x=\"{:.0}\" y=\"{:.0}\">{line}</text>",
            x + width / 2.0,
            y + 10.5 + index as f64 * LINE
        );
    }
}

const TITLE: &str = "A call: SIP x JSEP";
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
    .title{font-size:20px;font-weight:600}.head{font-size:15px;font-weight:600;text-anchor:middle;fill:#59636e}\
    .lane{fill:#f6f8fa;stroke:none}.state{fill:#ddf0ff;stroke:#0757ba;stroke-width:1.3}.rest{fill:#dcf7e3;stroke:#116329}\
    .over{fill:#ffebe9;stroke:#a40e26}.first{stroke-width:3.5}.sip{font-size:13px;font-weight:600;text-anchor:middle}\
    .jsep{font-size:12px;text-anchor:middle}.loop{font-size:10px;text-anchor:middle;fill:#59636e}\
    .way{fill:none;stroke:#59636e;stroke-width:1.3}.way.end{stroke:#c9616c}.event{font-size:10.5px;text-anchor:middle}\
    .event.end{fill:#a40e26}.under{fill:#ffffff;fill-opacity:.88}.foot{font-size:13px;fill:#59636e}";
const BOX: f64 = 128.0;
const BULGES: [f64; 15] = [
    0.0, 40.0, -40.0, 80.0, -80.0, 130.0, -130.0, 190.0, -190.0, 260.0, -260.0, 340.0, -340.0, 430.0, -430.0,
];
const CELL: (f64, f64) = (216.0, 140.0);
const LINE: f64 = 12.5;
const PAD: f64 = 20.0;
const PARTS: [f64; 9] = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82];
const SMALL: f64 = 10.5;
/// Points of a curve.
const STEPS: u32 = 120;
const TOP: f64 = 96.0;
