//! Holds a body against the table of its endpoint, so that nothing in it is passed over in silence.
//!
//! In: a body and a table. Out: warnings for the answer, or the error of the first parameter that
//! is refused.

use crate::errors::ApiError;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// What is done with a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// The answer follows it.
    Honoured,
    /// The answer follows it, as it follows what the chat API calls so.
    Means(&'static str),
    /// Accepted: it asks for nothing that an answer could show.
    NoEffect,
    /// Accepted with a warning: the answer does not follow it, for this reason.
    Ignored(&'static str),
    /// Refused for this reason, unless its value, as JSON, is one of these, which ask for nothing.
    Refused(&'static [&'static str], &'static str),
}

/// A parameter of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What is done with it.
    pub rule: Rule,
}

/// The parameters of an endpoint, in parts that endpoints share.
pub type Table = &'static [&'static [Param]];

/// Warnings that are given in full: bodies may have millions of names that nobody knows, and what
/// each was meant to be takes a while to find.
const MAX_WARNINGS: usize = 32;
/// What is said of others.
const AND_MORE: &str = "more parameters are unknown or ignored; only the first are listed";

/// Checks every parameter of a body; `path` is what stands before their names, for objects within
/// the body. `null` is the same as absent.
///
/// # Errors
/// For a refused parameter; where `is_strict`, also for what would be a warning.
pub fn check(
    path: &str,
    body: &Map<String, Value>,
    table: Table,
    is_strict: bool,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    check_also(&mut warnings, path, body, table, is_strict)?;
    Ok(warnings)
}

/// The same of one of many objects, whose warnings stand together.
///
/// # Errors
/// As there.
pub fn check_also(
    warnings: &mut Vec<String>,
    path: &str,
    body: &Map<String, Value>,
    table: Table,
    is_strict: bool,
) -> Result<(), ApiError> {
    for (name, value) in body {
        let known = table.iter().copied().flatten().find(|param| param.name == name);
        let path = format!("{path}{name}");
        let (code, warning) = match known.map(|param| param.rule) {
            Some(Rule::Honoured | Rule::Means(_) | Rule::NoEffect) => continue,
            Some(_) if value.is_null() => continue,
            None | Some(Rule::Ignored(_)) if warnings.len() > MAX_WARNINGS => continue,
            None | Some(Rule::Ignored(_)) if warnings.len() == MAX_WARNINGS => {
                warnings.push(AND_MORE.to_owned());
                continue;
            }
            None => ("unknown_parameter", unknown(&path, name, table)),
            Some(Rule::Ignored(why)) => ("ignored_parameter", format!("{path} is ignored: {why}")),
            Some(Rule::Refused(harmless, why)) => {
                if !harmless.contains(&value.to_string().as_str()) {
                    return Err(ApiError::unsupported(&path, format!("{path}: {why}")));
                }
                continue;
            }
        };
        if is_strict {
            let error = ApiError::new(StatusCode::BAD_REQUEST, code, warning);
            return Err(error.about(path));
        }
        warnings.push(warning);
    }
    Ok(())
}

fn unknown(path: &str, name: &str, table: Table) -> String {
    let distance = |known: &str| strsim::osa_distance(&cut(name), known);
    let useful = table.iter().copied().flatten();
    let useful = useful.filter(|param| !matches!(param.rule, Rule::Refused(..)));
    let nearest = useful.map(|param| (distance(param.name), param.name)).min();
    match nearest {
        Some((n, known)) if n <= known.len() / 3 => {
            format!("{path} is unknown and was ignored; did you mean {known}?")
        }
        _ => format!("{path} is unknown and was ignored"),
    }
}

/// Enough of a name to compare: names of clients may be as long as a body.
fn cut(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;
    use crate::tables::CHAT;
    use serde_json::json;

    fn checked(body: Value, is_strict: bool) -> Result<Vec<String>, String> {
        let checked = check("", body.as_object().unwrap(), CHAT, is_strict);
        checked.map_err(|error| error.json()["error"].to_string())
    }

    #[test]
    fn names_are_unique() {
        for table in routes::all().map(|route| route.takes) {
            let mut names: Vec<&str> = table.iter().copied().flatten().map(|p| p.name).collect();
            let n_names = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), n_names);
        }
    }

    #[test]
    fn harmless_values_are_instances_of_their_json() {
        let tables = routes::all().map(|route| route.takes);
        for param in tables.flatten().copied().flatten() {
            if let Rule::Refused(harmless, _) = param.rule {
                for text in harmless {
                    let value: Value = serde_json::from_str(text).unwrap();
                    assert_eq!(value.to_string(), *text, "{}", param.name);
                }
            }
        }
    }

    #[test]
    fn unknown_names_are_warnings_or_errors() {
        let body = json!({ "temprature": 1, "zzz": 2, "user": "me", "store": false });
        let warnings = checked(body.clone(), false).unwrap();
        let expected = [
            "temprature is unknown and was ignored; did you mean temperature?",
            "zzz is unknown and was ignored",
        ];
        assert_eq!(warnings, expected);
        let error = checked(body, true).unwrap_err();
        assert!(error.contains("\"param\":\"temprature\""), "{error}");
        assert!(error.contains("\"code\":\"unknown_parameter\""), "{error}");
    }

    #[test]
    fn of_many_unknown_names_the_first_are_listed() {
        let names = (0..3_000).map(|n| (format!("temperatur_{n:04}"), json!(n)));
        let mut body: Map<String, Value> = names.collect();
        let warnings = checked(body.clone().into(), false).unwrap();
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
        assert!(warnings[MAX_WARNINGS - 1].starts_with("temperatur_0031 is unknown"));
        assert_eq!(warnings[MAX_WARNINGS], AND_MORE);
        // What is refused is refused behind them, too.
        body.insert("zz".into(), Value::Null);
        body.insert("store".into(), true.into());
        assert!(checked(body.into(), false).unwrap_err().contains("\"param\":\"store\""));
        let mut warnings = Vec::new();
        for index in 0..3_000 {
            let message = json!({ "strange": 1 });
            let path = format!("messages[{index}].");
            let message = message.as_object().unwrap();
            check_also(&mut warnings, &path, message, CHAT, false).unwrap();
        }
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
    }

    #[test]
    fn refused_parameters_are_named_unless_they_ask_for_nothing() {
        let fine = json!({ "modalities": ["text"], "function_call": "auto", "audio": null });
        assert_eq!(checked(fine, true), Ok(Vec::new()));
        let refused = [
            json!({ "modalities": ["text", "audio"] }),
            json!({ "function_call": { "name": "f" } }),
            json!({ "audio": {} }),
            json!({ "store": true }),
        ];
        for body in refused {
            let name = body.as_object().unwrap().keys().next().unwrap().clone();
            let error = checked(body, false).unwrap_err();
            assert!(error.contains("unsupported_parameter"), "{error}");
            assert!(error.contains(&format!("\"param\":\"{name}\"")), "{error}");
        }
    }
}
