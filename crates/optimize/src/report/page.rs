//! What every page of Sterna has in common: its style, and inline SVG that is readable on light and
//! dark pages.
//!
//! Lines and words that should follow the page's colours are drawn in a colour that nothing else
//! uses, and that is then replaced by `currentColor`.

use plotters::coord::Shift;
use plotters::prelude::*;

/// The style sheet, to stand inside `<style>`.
pub const STYLE: &str = include_str!("style.css");

/// What follows the page's text colour.
pub const INK: RGBColor = RGBColor(1, 1, 1);
/// What follows it faintly.
pub const FAINT: RGBAColor = RGBAColor(1, 1, 1, 0.15);

/// What a drawing returns.
pub type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Runs a drawing of `size` pixels into SVG text that scales with its column. Coordinates must be
/// finite.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Drawn,
) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        // Drawing into a string cannot fail but for coordinates that are not finite; figures are.
        draw(&root).expect("finite coordinates");
        root.present().expect("a string takes everything");
    }
    let text = text.replace("#010101", "currentColor");
    let (width, height) = size;
    text.replacen(
        &format!("width=\"{width}\" height=\"{height}\""),
        "width=\"100%\" preserveAspectRatio=\"xMidYMid meet\"",
        1,
    )
}

/// Words of `size` pixels in the page's colour.
pub fn words(size: u32) -> TextStyle<'static> {
    ("system-ui, sans-serif", size).into_font().color(&INK)
}
