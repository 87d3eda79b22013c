//! The plots of a report as inline SVG.

use super::details::{Point, ReliabilityBins, Series, TensorRow, rank};
use super::page::{Drawn, FAINT, INK, svg, words};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeMap;
use sterna_measure::quality::reliability::Bin;

/// A chart whose axes are linear.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The baseline.
pub const BASELINE: RGBColor = RGBColor(120, 130, 150);
/// The artifact.
pub const ARTIFACT: RGBColor = RGBColor(226, 87, 44);
/// Uniform encodings.
pub const UNIFORM: RGBColor = RGBColor(46, 120, 210);
/// Plans tried on the way.
const TRIED: RGBAColor = RGBAColor(110, 160, 120, 0.75);

/// Size against divergence; `title` says on which text.
pub fn front(points: &[&Point], title: &str) -> Option<String> {
    let shown: Vec<&&Point> = points.iter().filter(|p| p.kind != "baseline").collect();
    if shown.is_empty() {
        return None;
    }
    let least = shown.iter().map(|p| p.kl).filter(|kl| *kl > 0.0).fold(f64::INFINITY, f64::min);
    let floor = if least.is_finite() { least / 3.0 } else { 1e-9 };
    let top = shown.iter().map(|p| p.kl).fold(floor * 10.0, f64::max) * 2.0;
    let kb = |p: &Point| p.bytes as f64 / 1e3;
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    points.iter().for_each(|p| (low, high) = (low.min(kb(p)), high.max(kb(p))));
    let margin = ((high - low) * 0.06).max(high * 0.01);
    Some(svg((760, 380), |root| {
        let mut chart = ChartBuilder::on(root)
            .caption(title, words(15))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(74)
            .build_cartesian_2d(low - margin..high + margin, (floor..top).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("file, kB")
            .y_desc("KL divergence, nats/token (log)")
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(INK)
            .label_style(words(12))
            .axis_desc_style(words(13))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0e}"))
            .y_labels(6)
            .draw()?;
        for point in points.iter().filter(|p| p.kind == "tried") {
            let at = (kb(point), point.kl.max(floor));
            chart.draw_series([Circle::new(at, 3, TRIED.filled())])?;
        }
        for point in points.iter().filter(|p| p.kind != "tried") {
            let (color, size) = match point.kind.as_str() {
                "baseline" => (BASELINE, 6),
                "chosen" => (ARTIFACT, 8),
                _ => (UNIFORM, 6),
            };
            let at = (kb(point), point.kl.max(floor));
            chart.draw_series([Circle::new(at, size, color.filled())])?;
            let is_right = kb(point) > (low + high) / 2.0;
            let anchor = Pos::new(if is_right { HPos::Right } else { HPos::Left }, VPos::Bottom);
            // Below, where what it is compared with has its name above: they may lie close.
            let is_below = point.kind == "chosen" && points.iter().any(|p| p.kind == "uniform");
            let offset = (if is_right { -6 } else { 6 }, if is_below { 20 } else { -8 });
            let style = words(12).pos(anchor);
            let name = if point.kind == "chosen" { "the plan chosen" } else { &point.label };
            let label = EmptyElement::at(at) + Text::new(name.to_owned(), offset, style);
            chart.draw_series([label])?;
        }
        Ok(())
    }))
}

/// The colour of an encoding: warm is many bits, cold is few.
fn color(tensor: &TensorRow) -> RGBColor {
    // Most choices lie between 3 and 8.5 bits, so most hues do too.
    let hue = match tensor.bits {
        bits if bits > 16.0 => 0.0,
        bits if bits > 8.5 => 0.07,
        bits => 0.72 - 0.55 * ((bits - 3.0) / 5.5).clamp(0.0, 1.0),
    };
    // Encodings of equal bits differ a little.
    let hue = hue + (rank(&tensor.to) % 3) as f64 * 0.015;
    let (r, g, b) = HSLColor(hue, 0.55, 0.56).rgb();
    RGBColor(r, g, b)
}

/// Layers by roles, coloured by encoding.
pub fn layers(tensors: &[TensorRow]) -> Option<String> {
    let mut roles: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(Option<usize>, usize), &TensorRow> = BTreeMap::new();
    for tensor in tensors {
        let role = roles.iter().position(|role| *role == tensor.role).unwrap_or_else(|| {
            roles.push(&tensor.role);
            roles.len() - 1
        });
        cells.insert((tensor.layer, role), tensor);
    }
    let mut layers: Vec<Option<usize>> = cells.keys().map(|(layer, _)| *layer).collect();
    layers.dedup();
    if layers.is_empty() {
        return None;
    }
    const CELL: (i32, i32) = (96, 26);
    const LEFT: i32 = 96;
    const TOP: i32 = 30;
    let size = (
        (LEFT + CELL.0 * roles.len() as i32 + 8) as u32,
        (TOP + CELL.1 * layers.len() as i32 + 8) as u32,
    );
    let center = Pos::new(HPos::Center, VPos::Center);
    Some(svg(size, |root| {
        for (column, role) in roles.iter().enumerate() {
            let x = LEFT + CELL.0 * column as i32 + CELL.0 / 2;
            let role = role.replace("attention ", "attn ").replace("token ", "");
            root.draw(&Text::new(role, (x, TOP / 2), words(12).pos(center)))?;
        }
        for (row, layer) in layers.iter().enumerate() {
            let y = TOP + CELL.1 * row as i32;
            let name = layer.map_or("outside layers".into(), |layer| format!("layer {layer}"));
            let style = words(12).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(name, (LEFT - 8, y + CELL.1 / 2), style))?;
            for column in 0..roles.len() {
                let Some(tensor) = cells.get(&(*layer, column)) else { continue };
                let x = LEFT + CELL.0 * column as i32;
                let corners = [(x + 1, y + 1), (x + CELL.0 - 1, y + CELL.1 - 1)];
                root.draw(&Rectangle::new(corners, color(tensor).filled()))?;
                let label = format!("{} {:.2}", tensor.to, tensor.bits);
                let style = ("system-ui, sans-serif", 12).into_font().color(&BLACK).pos(center);
                root.draw(&Text::new(label, (x + CELL.0 / 2, y + CELL.1 / 2), style))?;
            }
        }
        Ok(())
    }))
}

/// Bars of a histogram.
const N_BINS: usize = 40;

/// The distribution of a time, baseline and artifact over each other.
pub fn latency(series: &Series) -> Option<String> {
    let mut all: Vec<f64> = series.baseline.iter().chain(&series.artifact).copied().collect();
    if all.is_empty() {
        return None;
    }
    all.sort_by(f64::total_cmp);
    // A token that waited for another process says nothing of the model; the table has its size.
    let (low, median) = (all[0], all[all.len() / 2]);
    let high = all[(all.len() - 1) * 99 / 100].min(3.0 * median);
    let width = ((high - low) / N_BINS as f64).max(high * 1e-3).max(1e-9);
    let bins = |values: &[f64]| {
        let mut shares = [0.0; N_BINS + 1];
        for value in values {
            let bin = ((value - low) / width) as usize;
            shares[bin.min(N_BINS)] += 100.0 / values.len() as f64;
        }
        shares
    };
    let (baseline, artifact) = (bins(&series.baseline), bins(&series.artifact));
    let top = baseline.iter().chain(&artifact).copied().fold(1.0, f64::max) * 1.1;
    Some(svg((760, 260), |root| {
        let end = low + width * (N_BINS + 1) as f64;
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(56)
            .build_cartesian_2d(low..end, 0.0..top)?;
        let longer = "the last bar holds all that is longer";
        axes(&mut chart, &format!("{} ({}); {longer}", series.name, series.unit), "share, %")?;
        for (shares, color) in [(baseline, BASELINE), (artifact, ARTIFACT)] {
            chart.draw_series(shares.iter().enumerate().filter(|(_, s)| **s > 0.0).map(
                |(bin, share)| {
                    let from = low + width * bin as f64;
                    Rectangle::new([(from, 0.0), (from + width, *share)], color.mix(0.6).filled())
                },
            ))?;
        }
        Ok(())
    }))
}

/// Reliability diagrams: how often the favourite came, by how sure the model was, with the share of
/// answers that were so sure as bars.
pub fn reliability(bins: &ReliabilityBins) -> Option<String> {
    if bins.is_empty() {
        return None;
    }
    Some(svg((760, 380), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        let y = "share that came; bars: share of answers";
        axes(&mut chart, "confidence in the favourite token", y)?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], FAINT.stroke_width(2)))?;
        for (side, (bins, color)) in
            [(&bins.baseline, BASELINE), (&bins.artifact, ARTIFACT)].into_iter().enumerate()
        {
            let n: f64 = bins.iter().map(|bin| bin.n as f64).sum();
            let width = 1.0 / bins.len().max(1) as f64;
            let filled = || bins.iter().enumerate().filter(|(_, bin)| bin.n > 0);
            chart.draw_series(filled().map(|(index, bin)| {
                let from = (index as f64 + 0.15 + 0.35 * side as f64) * width;
                let share = bin.n as f64 / n;
                Rectangle::new([(from, 0.0), (from + 0.35 * width, share)], color.mix(0.3).filled())
            }))?;
            let point = |bin: &Bin| {
                let n = bin.n as f64;
                ((bin.confidence / n).clamp(0.0, 1.0), (bin.n_hits as f64 / n).min(1.0))
            };
            let points: Vec<(f64, f64)> = filled().map(|(_, bin)| point(bin)).collect();
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
            chart.draw_series(points.into_iter().map(|at| Circle::new(at, 4, color.filled())))?;
        }
        Ok(())
    }))
}

/// Axes with their names, and faint lines to read values by.
fn axes(chart: &mut Chart<'_, '_>, x: &str, y: &str) -> Drawn {
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(words(12))
        .axis_desc_style(words(13))
        .draw()?;
    Ok(())
}
