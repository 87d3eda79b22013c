//! What each technique brings, as inline SVG: quality step by step from the baseline to the
//! artifact, and how much longer runs take without each technique.

use super::details::{Ablation, Point};
use super::page::{FAINT, INK, svg, words};
use super::plots::{ARTIFACT, BASELINE, UNIFORM};
use crate::evidence::PLAIN;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sterna_measure::figure::short;
use sterna_measure::stats::Interval;

/// A bar from one value to another, and what stands beside it.
struct Bar {
    label: String,
    span: (f64, f64),
    interval: Option<Interval>,
    words: String,
    color: RGBColor,
}

/// The divergence of the encodings rounded plainly, what rounding and scaling by calibration text
/// take away or add, and what is left; nothing where the artifact has neither.
pub fn quality(points: &[Point]) -> Option<String> {
    let find = |kind: &str| points.iter().find(|point| point.kind == kind);
    let (plain, chosen) = (find(PLAIN)?, find("chosen")?);
    let bar = |label: &str, span: (f64, f64), color| Bar {
        label: label.to_owned(),
        span,
        interval: None,
        words: short(span.1 - span.0),
        color,
    };
    let bars = [
        bar("its encodings, rounded plainly", (0.0, plain.kl), UNIFORM),
        bar("fitted to calibration text", (plain.kl, chosen.kl), BASELINE),
        bar("the artifact", (0.0, chosen.kl), ARTIFACT),
    ];
    Some(draw(&bars, "KL divergence on held-out text, nats per token"))
}

/// How much longer runs take without the encodings (`decode` is the time of the artifact over the
/// baseline's) and without each optimization of the runtime.
pub fn speed(decode: Option<(f64, Option<Interval>)>, ablations: &[Ablation]) -> Option<String> {
    if ablations.is_empty() {
        return None;
    }
    let longer = |ratio: f64| (1.0 / ratio - 1.0) * 100.0;
    let encodings = decode.filter(|(ratio, _)| *ratio > 0.0).map(|(ratio, interval)| Bar {
        label: "its encodings".into(),
        span: (0.0, longer(ratio)),
        interval: interval
            .filter(|interval| interval.low > 0.0)
            .map(|interval| Interval { low: longer(interval.high), high: longer(interval.low) }),
        words: format!("{:+.1}%", longer(ratio)),
        color: ARTIFACT,
    });
    let bar = |ablation: &Ablation| Bar {
        label: match ablation.is_off {
            true => format!("{} (off)", ablation.name),
            false => ablation.name.clone(),
        },
        span: (0.0, ablation.without_percent),
        interval: Some(ablation.without_percent_ci95),
        words: format!("{:+.1}%", ablation.without_percent),
        color: if ablation.is_off { BASELINE } else { UNIFORM },
    };
    let bars: Vec<Bar> = encodings.into_iter().chain(ablations.iter().map(bar)).collect();
    Some(draw(&bars, "time of a run without it, % more"))
}

/// Bars below each other, over one axis.
fn draw(bars: &[Bar], axis: &str) -> String {
    const ROW: i32 = 40;
    let ends = bars.iter().flat_map(|bar| {
        let interval = bar.interval.map_or([0.0; 2], |interval| [interval.low, interval.high]);
        [bar.span.0, bar.span.1, interval[0], interval[1]]
    });
    let (low, high) = ends.fold((0.0f64, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
    let room = (high - low).max(1e-12) * 0.18;
    let range = (if low < 0.0 { low - room } else { 0.0 })..high + room;
    let height = (ROW * bars.len() as i32 + 66) as u32;
    svg((760, height), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .margin_left(230)
            .x_label_area_size(42)
            .build_cartesian_2d(range, 0.0..bars.len() as f64)?;
        chart
            .configure_mesh()
            .x_desc(axis)
            .disable_y_axis()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(INK)
            .label_style(words(12))
            .axis_desc_style(words(13))
            .x_label_formatter(&|x| short(*x))
            .draw()?;
        for (row, bar) in bars.iter().enumerate() {
            let middle = (bars.len() - row) as f64 - 0.5;
            let corners = [(bar.span.0, middle - 0.3), (bar.span.1, middle + 0.3)];
            chart.draw_series([Rectangle::new(corners, bar.color.mix(0.8).filled())])?;
            let ends =
                bar.interval.map(|interval| [(interval.low, middle), (interval.high, middle)]);
            chart.draw_series(ends.map(|ends| PathElement::new(ends, INK.stroke_width(2))))?;
            let at = chart.backend_coord(&(0.0, middle)).1;
            let label = words(12).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(bar.label.clone(), (228, at), label))?;
            let end = bar.interval.map_or(0.0, |interval| interval.high);
            let end = end.max(bar.span.0).max(bar.span.1);
            let place = chart.backend_coord(&(end, middle));
            let value = words(12).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(bar.words.clone(), (place.0 + 6, place.1), value))?;
        }
        Ok(())
    })
}
