//! Azure's traces of LLM inference (2023 and 2024): CSV of times and lengths. They do not say what
//! prompts share.

use super::{Format, Record, start_of};

/// One request a line.
pub const FORMAT: Format =
    Format { name: "azure", heading: Some("TIMESTAMP,ContextTokens,GeneratedTokens"), read };

fn read(line: &str) -> Result<Record, String> {
    let record = || -> Option<Record> {
        let mut fields = line.split(',');
        let at = seconds(fields.next()?)?;
        let n_prompt = fields.next()?.trim().parse().ok()?;
        let n_gen = fields.next()?.trim().parse().ok()?;
        let is_whole = fields.next().is_none();
        is_whole.then_some(Record { at, n_prompt, n_gen, blocks: Vec::new() })
    };
    record().ok_or_else(|| {
        format!(
            "{:?} is no request; a line is like 2023-11-16 18:17:03.9799600,4808,10",
            start_of(line)
        )
    })
}

/// Seconds since 1970 of a UTC time such as `2023-11-16 18:17:03.9799600`.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('Z').trim_end_matches("+00:00");
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hour, minute): (u32, u32) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month);
    let is_time = hour < 24 && minute < 60 && (0.0..61.0).contains(&second);
    if !is_date || !is_time || !(1..=31).contains(&day) {
        return None;
    }
    let minutes = f64::from(hour * 60 + minute);
    Some(days(year, month, day) as f64 * 86_400.0 + minutes * 60.0 + second)
}

/// Days from 1970 to a date of the Gregorian calendar. Counted from March, the leap day ends the
/// year, and months follow one formula.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        let known = [
            ("1970-01-01 00:00:00", 0.0),
            ("2000-02-28T23:59:59Z", 951_782_399.0),
            ("2000-02-29 00:00:00+00:00", 951_782_400.0),
            ("2026-11-21 12:00:00.5", 1_795_262_400.5),
        ];
        known.iter().for_each(|(text, at)| assert_eq!(seconds(text), Some(*at), "{text}"));
        for text in ["", "2023-11-16", "2023-13-01 00:00:00", "2023-11-16 24:00:00"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(seconds("2023-11-16 00:00:nan"), None);
        assert_eq!(seconds("9223372036854775807-1-1 0:0:0"), None);
    }
}
