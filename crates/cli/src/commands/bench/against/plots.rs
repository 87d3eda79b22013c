//! The plots of a race: speeds and shares as bars with every run on them, and how runs scatter.

use super::outcome::{Entrant, Race, Row};
use super::table::speed;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sterna_measure::stats;
use sterna_optimize::report::page::{Drawn, FAINT, INK, svg, words};

/// The colours of engines in the order of the race: Sterna, then its peers.
const COLORS: [RGBColor; 4] = [
    RGBColor(226, 87, 44),
    RGBColor(46, 120, 210),
    RGBColor(104, 159, 86),
    RGBColor(140, 110, 190),
];
/// The machine itself, among engines.
const MACHINE: RGBColor = RGBColor(120, 130, 150);

const WIDTH: i32 = 920;
/// Where bars begin, after the names.
const LEFT: i32 = 190;
/// What is kept for words after the longest bar.
const RIGHT: i32 = 190;
const BAR: i32 = 18;
const GAP: i32 = 3;
const GROUP_GAP: i32 = 16;
const AXIS: i32 = 30;

/// The colour of the engine at an index, for the page's key.
pub fn color(index: usize) -> String {
    let RGBColor(r, g, b) = COLORS[index % COLORS.len()];
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// A bar with its runs.
struct Bar {
    color: RGBColor,
    /// Its length and the runs on it; none where there are no numbers.
    value: Option<(f64, Vec<f64>)>,
    words: String,
}

/// Bars of one file.
struct Group {
    name: String,
    bars: Vec<Bar>,
}

/// Tokens per second of the rows of one test.
pub fn speeds(rows: &[&Row]) -> String {
    let bar = |index: usize, entrant: &Entrant| Bar {
        color: COLORS[index % COLORS.len()],
        value: entrant.summary.as_ref().map(|s| (s.median, entrant.samples.clone())),
        words: match &entrant.summary {
            Some(summary) => {
                let ratio = summary.ratio.map(|ratio| format!("  (sterna {ratio:.2}x)"));
                speed(summary.median) + &ratio.unwrap_or_default()
            }
            None => "unavailable".into(),
        },
    };
    draw_bars(&groups(rows, bar), None)
}

/// Shares of the ceiling, in percent, of the rows of one test.
pub fn shares(rows: &[&Row]) -> String {
    let bar = |index: usize, entrant: &Entrant| Bar {
        color: COLORS[index % COLORS.len()],
        value: entrant.summary.as_ref().map(|s| (100.0 * s.share, Vec::new())),
        words: match &entrant.summary {
            Some(summary) => format!("{:.0}%", 100.0 * summary.share),
            None => "unavailable".into(),
        },
    };
    draw_bars(&groups(rows, bar), Some(100.0))
}

fn groups(rows: &[&Row], bar: impl Fn(usize, &Entrant) -> Bar) -> Vec<Group> {
    let group = |row: &&Row| Group {
        name: row.file.trim_end_matches(".gguf").to_owned(),
        bars: row.entrants.iter().enumerate().map(|(index, e)| bar(index, e)).collect(),
    };
    rows.iter().map(group).collect()
}

/// Horizontal bars; `mark` is where the machine's ceiling lies.
fn draw_bars(groups: &[Group], mark: Option<f64>) -> String {
    let bars = groups.iter().flat_map(|group| &group.bars);
    let values = bars.filter_map(|bar| bar.value.as_ref());
    let longest = values.flat_map(|(value, runs)| runs.iter().chain([value]));
    let end = longest.copied().chain(mark).fold(0.0, f64::max).max(1e-9);
    let height: i32 = groups.iter().map(|group| group_height(group.bars.len())).sum();
    let at = |value: f64| LEFT + (value / end * f64::from(WIDTH - LEFT - RIGHT)) as i32;
    svg((WIDTH as u32, (height + AXIS) as u32), |root| {
        for tick in ticks(end) {
            root.draw(&PathElement::new([(at(tick), 4), (at(tick), height)], FAINT))?;
            let style = words(12).pos(Pos::new(HPos::Center, VPos::Top));
            root.draw(&Text::new(format!("{tick}"), (at(tick), height + 6), style))?;
        }
        let mut y = GROUP_GAP / 2;
        for group in groups {
            let middle = y + (group_height(group.bars.len()) - GROUP_GAP) / 2;
            let style = words(13).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(shortened(&group.name), (LEFT - 12, middle), style))?;
            for bar in &group.bars {
                draw_bar(root, bar, y, &at)?;
                y += BAR + GAP;
            }
            y += GROUP_GAP - GAP;
        }
        if let Some(mark) = mark {
            let line = PathElement::new([(at(mark), 0), (at(mark), height)], INK.stroke_width(2));
            root.draw(&line)?;
        }
        Ok(())
    })
}

fn group_height(n_bars: usize) -> i32 {
    n_bars as i32 * (BAR + GAP) - GAP + GROUP_GAP
}

/// The bar, its runs as a line from the least to the greatest with a dot each, and its words.
fn draw_bar(
    root: &DrawingArea<SVGBackend, Shift>,
    bar: &Bar,
    y: i32,
    at: &dyn Fn(f64) -> i32,
) -> Drawn {
    let middle = y + BAR / 2;
    let mut end = LEFT;
    if let Some((value, runs)) = &bar.value {
        root.draw(&Rectangle::new([(LEFT, y), (at(*value), y + BAR)], bar.color.filled()))?;
        end = runs.iter().chain([value]).map(|run| at(*run)).max().unwrap_or(end);
        let start = runs.iter().map(|run| at(*run)).min().unwrap_or(end);
        if !runs.is_empty() {
            root.draw(&PathElement::new([(start, middle), (end, middle)], INK.mix(0.7)))?;
        }
        for run in runs {
            root.draw(&Circle::new((at(*run), middle), 3, INK.mix(0.7).filled()))?;
        }
    }
    let style = words(12).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(bar.words.clone(), (end + 8, middle), style))?;
    Ok(())
}

/// Every run against the median of its engine, in percent, and the probes of the ceiling likewise.
pub fn spread(race: &Race) -> String {
    let mut lanes: Vec<(String, RGBColor, Vec<f64>)> = Vec::new();
    for row in &race.rows {
        let name = |engine: &str| format!("{} {engine}", row.test);
        for (index, entrant) in row.entrants.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            lanes.push((name(&entrant.engine), color, deviations(&entrant.samples)));
        }
        lanes.push((name(row.ceiling.words()), MACHINE, deviations(&row.ceiling.per_second)));
    }
    let far = lanes.iter().flat_map(|lane| &lane.2).fold(2.0, |far: f64, d| far.max(d.abs()));
    let middle = (WIDTH + LEFT - 20) / 2;
    let at = |percent: f64| middle + (percent / far * f64::from(WIDTH - LEFT - 60) / 2.0) as i32;
    let n_lanes = race.rows.first().map_or(1, |row| row.entrants.len() + 1);
    // A file's name stands above its lanes.
    let block = n_lanes as i32 * BAR + GROUP_GAP + BAR;
    let height = block * race.rows.len() as i32;
    svg((WIDTH as u32, (height + AXIS) as u32), |root| {
        for tick in ticks(far).into_iter().flat_map(|tick| [-tick, tick]) {
            root.draw(&PathElement::new([(at(tick), 4), (at(tick), height)], FAINT))?;
            let style = words(12).pos(Pos::new(HPos::Center, VPos::Top));
            root.draw(&Text::new(format!("{tick:+}%"), (at(tick), height + 6), style))?;
        }
        for (index, (name, color, values)) in lanes.iter().enumerate() {
            let (row, lane) = (index / n_lanes, (index % n_lanes) as i32);
            let top = row as i32 * block;
            if lane == 0 {
                let file = race.rows[row].file.trim_end_matches(".gguf").to_owned();
                let style = words(13).pos(Pos::new(HPos::Left, VPos::Center));
                root.draw(&Text::new(file, (8, top + BAR / 2 + 4), style))?;
            }
            let y = top + BAR + lane * BAR + BAR / 2 + 4;
            let style = words(12).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(name.clone(), (LEFT - 12, y), style))?;
            root.draw(&PathElement::new([(LEFT, y), (WIDTH - 20, y)], FAINT))?;
            for value in values {
                root.draw(&Circle::new((at(*value), y), 4, color.mix(0.75).filled()))?;
            }
        }
        Ok(())
    })
}

/// Percent above or below the median.
fn deviations(values: &[f64]) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    let median = stats::median(values);
    values.iter().map(|value| 100.0 * (value / median - 1.0)).collect()
}

/// Round numbers from 0 to `end`, about five of them.
fn ticks(end: f64) -> Vec<f64> {
    let rough = end / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    // Whole numbers of steps, written without the noise of adding them.
    let tick = |n: i32| (f64::from(n) * step * 1e6).round() / 1e6;
    (0..=(end / step) as i32).map(tick).collect()
}

/// Names that are too long for their column keep their end, where the encoding is.
fn shortened(name: &str) -> String {
    const MOST: usize = 26;
    let length = name.chars().count();
    match length > MOST {
        true => format!("…{}", name.chars().skip(length - MOST).collect::<String>()),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::against::outcome::tests::example;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(330.0), [0.0, 100.0, 200.0, 300.0]);
        assert_eq!(ticks(0.7), [0.0, 0.2, 0.4, 0.6]);
        assert_eq!(shortened(&"x".repeat(40)).chars().count(), 27);
    }

    #[test]
    fn bars_say_their_numbers_and_follow_the_page() {
        let race = example();
        let rows: Vec<&Row> = race.rows.iter().collect();
        let svg = speeds(&rows);
        for wanted in ["300.0", "320.0  (sterna 0.94x)", "unavailable", "currentColor", "#E2572C"] {
            assert!(svg.contains(wanted), "{wanted} in {svg}");
        }
        assert!(shares(&rows).contains("90%"));
        let dots = |svg: &str| svg.matches("<circle").count();
        assert_eq!((dots(&svg), dots(&shares(&rows))), (5 * 4, 0));
        assert_eq!(dots(&spread(&race)), 5 * 4 + 2 * 2);
    }
}
