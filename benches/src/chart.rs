//! The throughputs of a report as a picture: per workload one bar per engine, the best full width.

use crate::report::{Report, throughput};
use std::fmt::Write;

const COLOURS: &[&str] = &["#0b6e4f", "#c8553d", "#3d5a80", "#8d6a9f", "#b08900", "#6c757d"];
const LEFT: usize = 110;
const BAR: usize = 560;
const ROW: usize = 13;
const GAP: usize = 12;
const TOP: usize = 44;

/// The report as an SVG document.
pub fn draw(report: &Report) -> String {
    let block = report.engines.len() * ROW + GAP;
    let height = TOP + report.workloads.len() * block + GAP;
    let width = LEFT + BAR + 150;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"18\" font-size=\"14\">Throughput, relative to the best</text>\n"
    );
    legend(&mut svg, report);
    for (number, workload) in report.workloads.iter().enumerate() {
        bars(&mut svg, report, workload, TOP + number * block);
    }
    svg.push_str("</svg>\n");
    svg
}

// Writing to a string cannot fail, so the results below are not looked at.

fn legend(svg: &mut String, report: &Report) {
    for (number, (engine, colour)) in report.engines.iter().zip(COLOURS.iter().cycle()).enumerate()
    {
        let x = LEFT + number * 90;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"35\">{engine}</text>",
            x + 14
        );
    }
}

fn bars(svg: &mut String, report: &Report, workload: &str, top: usize) {
    let rate = |engine: &str| report.median(engine, workload, |outcome| Some(throughput(outcome)));
    let best = report.engines.iter().filter_map(|engine| rate(engine)).fold(0.0, f64::max);
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{workload}</text>",
        LEFT - 8,
        top + ROW
    );
    for (number, (engine, colour)) in report.engines.iter().zip(COLOURS.iter().cycle()).enumerate()
    {
        let Some(rate) = rate(engine) else { continue };
        let width = (BAR as f64 * rate / best.max(f64::MIN_POSITIVE)).max(1.0);
        let y = top + number * ROW;
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            ROW - 2,
            LEFT as f64 + width + 5.0,
            y + ROW - 3,
            per_second(rate)
        );
    }
}

fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.1} /s"),
    }
}
