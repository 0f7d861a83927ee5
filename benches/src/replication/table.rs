//! Figures, each beside its target and with how it was come by.

use std::fmt::{self, Write};

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// Nothing; it explains others.
    None,
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// Something that was measured.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) target: Target,
    /// The method.
    pub(super) how: &'static str,
}

impl Figure {
    /// One that explains others.
    pub(super) fn new(
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        how: &'static str,
    ) -> Figure {
        Figure { what: what.into(), value, unit, target: Target::None, how }
    }

    /// The same, with something asked of it.
    pub(super) fn asked(self, target: Target) -> Figure {
        Figure { target, ..self }
    }

    fn value(&self) -> String {
        format!("{} {}", number(self.value), self.unit)
    }

    fn target(&self) -> String {
        match self.target {
            Target::None => String::new(),
            Target::AtLeast(least) => format!(">= {}", number(least)),
            Target::AtMost(most) => format!("<= {}", number(most)),
        }
    }

    fn verdict(&self) -> &'static str {
        let is_met = match self.target {
            Target::None => return "",
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
        };
        if is_met { "yes" } else { "NO" }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, target) = (self.value(), self.target());
        write!(f, "{:52} {value:>18} {target:>12} {:3}  {}", self.what, self.verdict(), self.how)
    }
}

/// All of them as a table.
pub(super) fn markdown(figures: &[Figure]) -> String {
    let mut out =
        String::from("| | measured | target | met | how |\n| --- | --- | --- | --- | --- |\n");
    for figure in figures {
        let (value, target, met) = (figure.value(), figure.target(), figure.verdict());
        let _ = writeln!(out, "| {} | {value} | {target} | {met} | {} |", figure.what, figure.how);
    }
    out
}

/// Digits as far as they mean something, and spaces between thousands.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => return thousands(value),
    };
    format!("{value:.decimals$}")
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// The value below which `share` of `sorted` lie.
pub(super) fn percentile(sorted: &[u64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(last)).copied().unwrap_or(0) as f64
}

/// The one in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_whether_they_meet_their_target() {
        let figure = |value| Figure::new("rate", value, "ops/s", "clock");
        let met = figure(1_234_567.0).asked(Target::AtLeast(200_000.0));
        assert_eq!((met.value().as_str(), met.verdict()), ("1 234 567 ops/s", "yes"));
        assert_eq!(met.target(), ">= 200 000");
        assert_eq!(figure(0.5).asked(Target::AtMost(0.25)).verdict(), "NO");
        assert_eq!(figure(12.345).value(), "12.3 ops/s");
        assert_eq!(percentile(&[1, 2, 3, 4], 0.5), 3.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
