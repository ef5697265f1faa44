//! Figures of both sides, their medians and ratios, and the table in BENCHMARKS.md.

use std::fs;
use std::path::Path;

use super::server::Side;

/// The lines around a table in BENCHMARKS.md.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    begin: &'static str,
    end: &'static str,
}

/// Where the figures of one server stand.
pub(super) const ALONE: Place = Place {
    begin: "<!-- bench:begin (written by `cargo xtask bench --write`) -->",
    end: "<!-- bench:end -->",
};
/// Where those of three stand.
pub(super) const ENSEMBLE: Place = Place {
    begin: "<!-- bench:ensemble:begin (written by `cargo xtask bench --ensemble --write`) -->",
    end: "<!-- bench:ensemble:end -->",
};
/// Where those of the WebAssembly core stand.
pub(super) const WASM: Place = Place {
    begin: "<!-- bench:wasm:begin (written by `cargo xtask bench --wasm --write`) -->",
    end: "<!-- bench:wasm:end -->",
};

/// Figures in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    apache: Vec<f64>,
    zabra: Vec<f64>,
}

impl Table {
    pub(super) fn put(&mut self, name: &str, unit: &'static str, side: Side, value: f64) {
        if !self.rows.iter().any(|row| row.name == name) {
            let (apache, zabra) = (Vec::new(), Vec::new());
            self.rows.push(Row {
                name: name.to_owned(),
                unit,
                apache,
                zabra,
            });
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            match side {
                Side::Peer => row.apache.push(value),
                Side::Zabra => row.zabra.push(value),
            }
        }
    }

    /// Medians, and the ratio of the second to the first: its median over the pairs, and its range.
    pub(super) fn markdown(&self, first: &str, second: &str) -> Result<String, String> {
        let mut text = format!("| what | unit | {first} | {second} | ratio | range of ratios |\n");
        text += "|---|---|--:|--:|--:|--:|\n";
        for Row {
            name,
            unit,
            apache,
            zabra,
        } in &self.rows
        {
            let ratios: Vec<_> = apache.iter().zip(zabra).map(|(a, b)| b / a).collect();
            let lost = || format!("{name}: expected a figure of both servers in every round");
            let [a, b, ratio] = [apache, zabra, &ratios].map(|figures| median(figures));
            let (a, b, ratio) = a.zip(b).zip(ratio).map(flat).ok_or_else(lost)?;
            let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = ratios.iter().copied().fold(0.0, f64::max);
            text += &format!(
                "| {name} | {unit} | {} | {} | **{}** | {} to {} |\n",
                number(a),
                number(b),
                ratio_text(ratio),
                ratio_text(lowest),
                ratio_text(highest),
            );
        }
        Ok(text)
    }
}

fn flat(((a, b), c): ((f64, f64), f64)) -> (f64, f64, f64) {
    (a, b, c)
}

/// The middle one, or the mean of the middle two.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    let low = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(low, high))
}

/// Three digits, or whole thousands apart.
pub(super) fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio_text(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.3}")
    } else {
        format!("{ratio:.2}")
    }
}

/// Puts `text` between the markers of the file at `path`; the rest of it is written by hand.
pub(super) fn write(path: &Path, place: Place, text: &str) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", path.display());
    let old = fs::read_to_string(path).map_err(failed)?;
    let Place { begin, end } = place;
    let new = replaced(&old, place, text)
        .ok_or_else(|| format!("{}: expected the lines {begin} and {end}", path.display()))?;
    fs::write(path, new).map_err(failed)
}

fn replaced(old: &str, place: Place, text: &str) -> Option<String> {
    let Place { begin, end } = place;
    let (before, rest) = old.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        text.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() -> Result<(), String> {
        let mut table = Table::default();
        // The machine was ten times slower in the last round, for both.
        for (a, b) in [(1000.0, 2000.0), (1100.0, 4400.0), (100.0, 300.0)] {
            table.put("get", "ops/s", Side::Peer, a);
            table.put("get", "ops/s", Side::Zabra, b);
        }
        let text = table.markdown("A", "B")?;
        let row = text.lines().last().unwrap_or_default();
        assert_eq!(
            row,
            "| get | ops/s | 1,000 | 2,000 | **3.00** | 2.00 to 4.00 |"
        );
        Ok(())
    }

    #[test]
    fn row_of_one_side_only_is_an_error() {
        let mut table = Table::default();
        table.put("get", "ops/s", Side::Peer, 1.0);
        assert!(table.markdown("A", "B").is_err());
    }

    #[test]
    fn median_of_two_is_their_mean() {
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let values = [0.456, 9.994, 45.67, 123.4, 45_678.9, 1_234_567.0];
        let texts = values.map(number);
        assert_eq!(
            texts,
            ["0.46", "9.99", "45.7", "123", "45,679", "1,234,567"]
        );
    }

    #[test]
    fn what_is_written_by_hand_survives() {
        let Place { begin, end } = ALONE;
        let old = format!("by hand\n{begin}\nold\n{end}\nlimits\n");
        let once = replaced(&old, ALONE, "new\n");
        let expected = format!("by hand\n{begin}\n\nnew\n\n{end}\nlimits\n");
        assert_eq!(once.as_deref(), Some(expected.as_str()));
        let twice = once.and_then(|once| replaced(&once, ALONE, "new"));
        assert_eq!(twice.as_deref(), Some(expected.as_str()));
        assert_eq!(replaced("no markers", ALONE, "new"), None);
        assert_eq!(replaced(&old, ENSEMBLE, "new"), None);
    }
}
