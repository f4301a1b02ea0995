//! Charts as SVG: bars from zero, labelled where they end, readable on light and on dark. No script, no font of their own.

use std::fmt::Write as _;

/// One bar: parts beside each other, and what stands at its end.
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Lengths, in the order of the chart's parts.
    pub parts: Vec<f64>,
    /// The figure at its end.
    pub end: String,
    /// Whether it is siv's, or something to compare it with.
    pub own: bool,
}

/// A chart of bars.
pub struct Chart {
    /// What it shows, in one line.
    pub title: String,
    /// How it was measured, in one line.
    pub note: String,
    /// Names of the parts where a bar has two.
    pub parts: Vec<&'static str>,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 290.0;
const ENDS: f64 = 110.0;
const STEP: f64 = 32.0;
const TOP: f64 = 92.0;

const STYLE: &str = "text{font-family:system-ui,sans-serif;font-size:14px;font-variant-numeric:tabular-nums;fill:#1f2328}\
.title{font-size:16px;font-weight:600}.note{font-size:13px;fill:#57606a}.ground{fill:#fff;stroke:#d0d7de}\
.own0{fill:#1a56c4}.own1{fill:#7ea6ee}.other0{fill:#6e7781}.other1{fill:#afb8c1}.axis{stroke:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9da7b3}.ground{fill:#0d1117;stroke:#30363d}\
.own0{fill:#6ea0ff}.own1{fill:#2f5aa8}.other0{fill:#9da7b3}.other1{fill:#57606a}.axis{stroke:#6e7681}}";

impl Chart {
    /// The chart as a document.
    pub fn svg(&self) -> String {
        #[allow(clippy::cast_precision_loss, reason = "few bars")]
        let height = TOP + STEP * self.bars.len() as f64 + 12.0;
        let longest = self.bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LABELS - ENDS) / longest;
        let told: Vec<String> = self.bars.iter().map(|bar| format!("{}: {}", bar.label, bar.end)).collect();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">{}</title>\n\
             <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
             <text class=\"title\" x=\"16\" y=\"30\">{}</text>\n<text class=\"note\" x=\"16\" y=\"52\">{}</text>\n",
            escaped(&self.title),
            escaped(&told.join("; ")),
            WIDTH - 1.0,
            height - 1.0,
            escaped(&self.title),
            escaped(&self.note)
        );
        self.key(&mut svg);
        let mut y = TOP;
        for bar in &self.bars {
            bar.draw(y, scale, &mut svg);
            y += STEP;
        }
        let _ = writeln!(svg, "<line class=\"axis\" x1=\"{LABELS}\" x2=\"{LABELS}\" y1=\"{}\" y2=\"{y}\"/>", TOP - 6.0);
        svg.push_str("</svg>\n");
        svg
    }

    /// Which shade is which part.
    fn key(&self, svg: &mut String) {
        let mut x = LABELS;
        for (at, part) in self.parts.iter().enumerate().filter(|_| self.parts.len() > 1) {
            let _ = writeln!(
                svg,
                "<rect class=\"own{at}\" x=\"{x}\" y=\"64\" width=\"12\" height=\"12\"/>\
                 <text class=\"note\" x=\"{}\" y=\"75\">{}</text>",
                x + 18.0,
                escaped(part)
            );
            x += 150.0;
        }
    }
}

impl Bar {
    fn draw(&self, y: f64, scale: f64, svg: &mut String) {
        let (kind, middle) = (if self.own { "own" } else { "other" }, y + 15.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
            LABELS - 10.0,
            escaped(&self.label)
        );
        let mut x = LABELS;
        for (at, part) in self.parts.iter().enumerate() {
            let width = (part * scale).max(0.0);
            let _ =
                writeln!(svg, "<rect class=\"{kind}{at}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\"/>");
            x += width;
        }
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{middle}\">{}</text>", x + 8.0, escaped(&self.end));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
