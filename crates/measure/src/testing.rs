//! What tests of this crate share: golden text folded to the width of a page.

/// Breaks `text` at spaces into lines of at most 88 columns; later lines are indented by two.
pub fn fold(text: &str) -> String {
    let mut folded = String::new();
    for line in text.lines() {
        let mut width = 0;
        for word in line.split(' ') {
            if width > 0 && width + 1 + word.chars().count() > 88 {
                folded.push_str("\n ");
                width = 1;
            }
            if width > 0 {
                folded.push(' ');
                width += 1;
            }
            folded.push_str(word);
            width += word.chars().count();
        }
        folded.push('\n');
    }
    folded.pop();
    folded
}
