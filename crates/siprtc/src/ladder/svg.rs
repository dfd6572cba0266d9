//! The ladder as an SVG.

use super::words::{columns, wrap};
use super::{Item, Ladder, Layer, Step, milliseconds, words};
use std::fmt::Write;

impl Ladder {
    /// The diagram as one SVG document that needs nothing else: its own background and colours, which follow the
    /// reader's light or dark scheme; a legend; the layer of each step in words as well as in colour; the whole label
    /// and detail when the pointer rests on a step.
    pub fn to_svg(&self) -> String {
        let items = self.items();
        let sheet = Sheet::new(self, &items);
        let mut body = String::new();
        sheet.titles(self, &items, &mut body);
        sheet.heads(&self.participants, TOP - HEAD, &mut body);
        let mut y = TOP + PAD;
        let mut drawn = String::new();
        for item in &items {
            y += match item {
                Item::Step(step) => sheet.step(step, y, &mut drawn),
                Item::LeftOut(_) | Item::Pause(_) => sheet.cut(item, y, &mut drawn),
            };
        }
        let bottom = y + PAD / 2.0;
        sheet.lifelines(bottom, &mut body);
        body.push_str(&drawn);
        let height = if items.len() > LONG {
            sheet.heads(&self.participants, bottom, &mut body);
            bottom + HEAD + PAD
        } else {
            bottom + PAD
        };
        let (width, title) = (sheet.width, escape(&self.title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>{}</style>\n\
             <rect class=\"sheet\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n{body}</svg>\n",
            style(),
            width - 1.0,
            height - 1.0,
        )
    }
}

/// Where things stand, in user units (pixels at scale 1).
struct Sheet {
    gap: f64,
    lines: Vec<f64>,
    width: f64,
}

impl Sheet {
    fn new(ladder: &Ladder, items: &[Item<'_>]) -> Self {
        let labels = items.iter().map(|item| match item {
            Item::Step(step) => length(&step.label, LABEL) + 52.0,
            Item::LeftOut(_) | Item::Pause(_) => length(&item.cut().unwrap_or_default(), 12.0) + 32.0,
        });
        let names = ladder.participants.iter().map(|name| length(name, NAME) + 60.0);
        let gap = labels.chain(names).fold(MIN_GAP, f64::max).min(MAX_GAP).round();
        let side = (gap / 2.0).max(SIDE);
        let lines: Vec<f64> = (0..ladder.participants.len())
            .map(|index| LEFT + side + gap * index as f64)
            .collect();
        let width = lines.last().map_or(LEFT, |last| last + side + PAD).max(MIN_WIDTH);
        Sheet { gap, lines, width }
    }

    fn titles(&self, ladder: &Ladder, items: &[Item<'_>], out: &mut String) {
        let legend = self.legend(items);
        let title = cut_to(&ladder.title, 17.0, self.width - legend.1 - 3.0 * PAD);
        text(out, "title", PAD, 36.0, "start", &title);
        let last = items.iter().rev().find_map(|item| match item {
            Item::Step(step) => Some(step.at),
            _ => None,
        });
        let count = ladder.len();
        let plural = if count == 1 { "" } else { "s" };
        let lasted = last.map_or_else(String::new, |last| format!(" · {}", words::duration(last)));
        text(
            out,
            "faint",
            PAD,
            56.0,
            "start",
            &format!("{count} step{plural}{lasted}"),
        );
        out.push_str(&legend.0);
        text(out, "faint time", TIME, TOP - HEAD / 2.0 + 4.0, "end", "ms");
    }

    /// The layers that occur, on the right, and how wide that is.
    fn legend(&self, items: &[Item<'_>]) -> (String, f64) {
        let occurs = |layer| {
            items
                .iter()
                .any(|item| matches!(item, Item::Step(step) if step.layer == layer))
        };
        let (mut out, mut x) = (String::new(), self.width - PAD);
        for layer in Layer::ALL.into_iter().rev().filter(|layer| occurs(*layer)) {
            x -= BADGE + 8.0;
            badge(&mut out, layer, x + 8.0, 32.0);
        }
        (out, self.width - PAD - x)
    }

    fn heads(&self, names: &[String], y: f64, out: &mut String) {
        for (name, &line) in names.iter().zip(&self.lines) {
            let shown = cut_to(name, NAME, self.gap - 40.0);
            let width = (length(&shown, NAME) + 32.0).max(72.0).round();
            let x = line - width / 2.0;
            let _ = writeln!(
                out,
                "<rect class=\"head\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEAD}\" rx=\"7\"/>"
            );
            text(out, "name", line, y + HEAD / 2.0 + 5.0, "middle", &shown);
        }
    }

    fn lifelines(&self, bottom: f64, out: &mut String) {
        for line in &self.lines {
            let _ = writeln!(out, "<path class=\"life\" d=\"M{line} {TOP}V{bottom}\"/>");
        }
    }

    /// One step; says how high it is.
    fn step(&self, step: &Step, y: f64, out: &mut String) -> f64 {
        out.push_str("<g>");
        let whole = match &step.detail {
            Some(detail) => format!("{}\n{detail}", step.label),
            None => step.label.clone(),
        };
        let _ = writeln!(out, "<title>{}</title>", escape(&whole));
        let middle = y + ROW / 2.0;
        text(
            out,
            "faint time",
            TIME,
            middle + 8.0,
            "end",
            &milliseconds(step.at),
        );
        badge(out, step.layer, TIME + 12.0, middle + 4.0);
        let more = if step.from == step.to {
            self.note(step, y, out)
        } else {
            self.arrow(step, y, out)
        };
        out.push_str("</g>\n");
        ROW + more
    }

    /// An arrow with its label above and its detail below; says how much higher than a row it is.
    fn arrow(&self, step: &Step, y: f64, out: &mut String) -> f64 {
        let (from, to) = (self.lines[step.from], self.lines[step.to]);
        let sign = if from < to { 1.0 } else { -1.0 };
        let line = y + ROW - 10.0;
        let class = class(step.layer);
        let mut path = format!("M{from} {line}");
        let crossed = self
            .lines
            .iter()
            .filter(|&&x| from.min(to) < x && x < from.max(to));
        let mut crossed: Vec<f64> = crossed.copied().collect();
        if sign < 0.0 {
            crossed.reverse();
        }
        // A bridge over each lifeline between: that participant does not see it.
        for x in crossed {
            let sweep = if sign > 0.0 { 1 } else { 0 };
            let _ = write!(path, "H{}a6 6 0 0 {sweep} {} 0", x - 6.0 * sign, 12.0 * sign);
        }
        let _ = writeln!(
            out,
            "<path class=\"arrow {class}\" d=\"{path}H{}\"/>",
            to - 7.0 * sign
        );
        let back = to - 10.0 * sign;
        let _ = writeln!(
            out,
            "<path class=\"tip {class}\" d=\"M{to} {line}L{back} {}L{} {line}L{back} {}Z\"/>",
            line - 5.0,
            to - 8.0 * sign,
            line + 5.0
        );
        let _ = writeln!(
            out,
            "<circle class=\"tip {class}\" cx=\"{from}\" cy=\"{line}\" r=\"2.5\"/>"
        );
        let near = self.gap - 36.0;
        let far = (to - from).abs() - 36.0;
        let fits = length(&step.label, LABEL) <= near;
        let (x, room) = if fits {
            (from + sign * self.gap / 2.0, near)
        } else {
            ((from + to) / 2.0, far)
        };
        text(
            out,
            &format!("label {class}"),
            x,
            line - 7.0,
            "middle",
            &cut_to(&step.label, LABEL, room),
        );
        let x = from + sign * self.gap / 2.0;
        self.details(step, x, line + 14.0, near, out)
    }

    /// A box on a lifeline; says how much higher than a row it is.
    fn note(&self, step: &Step, y: f64, out: &mut String) -> f64 {
        let line = self.lines[step.from];
        let class = class(step.layer);
        let room = self.gap - 36.0;
        let label = cut_to(&step.label, LABEL, room);
        let lines = self.broken(step, room);
        let longest = lines
            .iter()
            .map(|line| length(line, DETAIL))
            .fold(length(&label, LABEL), f64::max);
        let width = (longest + 22.0).max(64.0).round();
        let more = lines.len() as f64 * DETAIL_ROW;
        let height = ROW - 8.0 + more;
        let x = line - width / 2.0;
        let _ = writeln!(
            out,
            "<rect class=\"note {class}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>",
            y + 8.0
        );
        text(out, &format!("label {class}"), line, y + 26.0, "middle", &label);
        self.details(step, line, y + 26.0 + DETAIL_ROW, room, out);
        more + 4.0
    }

    /// The detail in its rows; says how high they are.
    fn details(&self, step: &Step, x: f64, y: f64, room: f64, out: &mut String) -> f64 {
        let lines = self.broken(step, room);
        for (index, line) in lines.iter().enumerate() {
            text(out, "detail", x, y + index as f64 * DETAIL_ROW, "middle", line);
        }
        lines.len() as f64 * DETAIL_ROW
    }

    fn broken(&self, step: &Step, room: f64) -> Vec<String> {
        let most = (room / (DETAIL * EM)) as usize;
        step.detail
            .as_deref()
            .map(|detail| wrap(detail, most, DETAIL_ROWS))
            .unwrap_or_default()
    }

    /// Where time is cut out.
    fn cut(&self, item: &Item<'_>, y: f64, out: &mut String) -> f64 {
        let Some(words) = item.cut() else { return 0.0 };
        let middle = y + ROW / 2.0;
        for line in &self.lines {
            let _ = writeln!(
                out,
                "<path class=\"gone\" d=\"M{line} {}V{}\"/><path class=\"dots\" d=\"M{line} {}V{}\"/>",
                middle - 11.0,
                middle + 11.0,
                middle - 8.0,
                middle + 8.0
            );
        }
        let first = self.lines.first().copied().unwrap_or(LEFT);
        let x = if self.lines.len() == 1 {
            first
        } else {
            first + self.gap / 2.0
        };
        text(out, "faint", x, middle + 4.0, "middle", &words);
        text(out, "faint time", TIME, middle + 4.0, "end", "⋮");
        ROW
    }
}

fn badge(out: &mut String, layer: Layer, x: f64, middle: f64) {
    let class = class(layer);
    let _ = writeln!(
        out,
        "<rect class=\"badge {class}\" x=\"{x}\" y=\"{}\" width=\"{BADGE}\" height=\"16\" rx=\"8\"/>",
        middle - 8.0
    );
    text(
        out,
        &format!("tag {class}"),
        x + BADGE / 2.0,
        middle + 3.5,
        "middle",
        layer.as_str(),
    );
}

fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
        escape(words)
    );
}

fn class(layer: Layer) -> &'static str {
    match layer {
        Layer::Sip => "sip",
        Layer::Ice => "ice",
        Layer::Dtls => "dtls",
        Layer::Rtp => "rtp",
    }
}

/// For text and for attributes. Control characters were taken out when the text came in.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// How long a text is about, at a font size. The reader's font is not known: a little too long rather than too short.
pub(crate) fn length(text: &str, size: f64) -> f64 {
    text.chars().map(|c| columns(c) as f64).sum::<f64>() * size * EM
}

fn cut_to(text: &str, size: f64, room: f64) -> String {
    words::fit(text, (room / (size * EM)).max(1.0) as usize)
}

/// Colours for light and, where the reader prefers it, for dark. Written out for each, without variables: not every
/// renderer of SVG knows them.
fn style() -> String {
    let mut out = String::from(
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}\
         .title{font-size:17px;font-weight:600}.name{font-size:14px;font-weight:600}.label{font-size:13px;\
         font-weight:500;paint-order:stroke;stroke-width:4px;stroke-linejoin:round}.detail{font-size:11px;\
         paint-order:stroke;stroke-width:3px}.tag{font-size:9.5px;font-weight:700;letter-spacing:.4px}\
         .time{font-variant-numeric:tabular-nums}.arrow{fill:none;stroke-width:1.6}\
         .arrow.rtp{stroke-width:2.6}.life{stroke-width:1.2;fill:none}.gone{stroke-width:4}\
         .dots{stroke-width:1.6;stroke-dasharray:1.6 4;stroke-linecap:round}",
    );
    out.push_str(&LIGHT.rules());
    let _ = write!(out, "@media (prefers-color-scheme:dark){{{}}}", DARK.rules());
    out
}

struct Theme {
    sheet: &'static str,
    edge: &'static str,
    head: &'static str,
    life: &'static str,
    strong: &'static str,
    faint: &'static str,
    layers: [(Layer, &'static str, &'static str); 4],
}

impl Theme {
    fn rules(&self) -> String {
        let Theme {
            sheet,
            edge,
            head,
            life,
            strong,
            faint,
            layers,
        } = self;
        let mut out = format!(
            ".sheet{{fill:{sheet};stroke:{edge}}}.head{{fill:{head};stroke:{edge}}}.title,.name{{fill:{strong}}}\
             .faint,.detail{{fill:{faint}}}.life,.dots{{stroke:{life}}}.gone{{stroke:{sheet}}}\
             .label,.detail{{stroke:{sheet}}}"
        );
        for (layer, colour, tint) in layers {
            let class = class(*layer);
            let _ = write!(
                out,
                ".label.{class},.tag.{class},.tip.{class}{{fill:{colour}}}.arrow.{class}{{stroke:{colour}}}\
                 .note.{class}{{fill:{tint};stroke:{colour}}}.badge.{class}{{fill:{tint}}}\
                 .note.{class}~text{{stroke:none}}"
            );
        }
        out
    }
}

const LIGHT: Theme = Theme {
    sheet: "#ffffff",
    edge: "#d1d9e0",
    head: "#f6f8fa",
    life: "#b7c0ca",
    strong: "#1f2328",
    faint: "#59636e",
    layers: [
        (Layer::Sip, "#0757ba", "#ddf0ff"),
        (Layer::Ice, "#8a4b00", "#fff1d6"),
        (Layer::Dtls, "#7434c4", "#f3e8ff"),
        (Layer::Rtp, "#116329", "#dcf7e3"),
    ],
};

const DARK: Theme = Theme {
    sheet: "#0d1117",
    edge: "#3d444d",
    head: "#1b222c",
    life: "#4b5561",
    strong: "#f0f6fc",
    faint: "#9aa5b1",
    layers: [
        (Layer::Sip, "#79b8ff", "#12294a"),
        (Layer::Ice, "#f0b849", "#3a2a06"),
        (Layer::Dtls, "#d2a8ff", "#2f1c4d"),
        (Layer::Rtp, "#56d364", "#0f3219"),
    ],
};

/// Width of a character, as a part of the font size.
const EM: f64 = 0.58;
const BADGE: f64 = 40.0;
const DETAIL: f64 = 11.0;
const DETAIL_ROW: f64 = 14.0;
const DETAIL_ROWS: usize = 2;
const HEAD: f64 = 32.0;
const LABEL: f64 = 13.0;
/// Where the lifelines' half of the sheet begins.
const LEFT: f64 = TIME + BADGE + 20.0;
/// Ladders with more lines repeat the participants at the bottom.
const LONG: usize = 18;
const MAX_GAP: f64 = 320.0;
const MIN_GAP: f64 = 180.0;
const MIN_WIDTH: f64 = 420.0;
const NAME: f64 = 14.0;
const PAD: f64 = 20.0;
const ROW: f64 = 36.0;
const SIDE: f64 = 100.0;
/// Right end of the times.
const TIME: f64 = 76.0;
/// Upper end of the lifelines.
const TOP: f64 = 114.0;
