//! Parameters of a body, read by name and type.
//!
//! `null` is the same as absent, as clients of OpenAI send it. What has the wrong type or is out of
//! range is an error that names the parameter.

use crate::errors::ApiError;
use serde_json::{Map, Value};

/// The parameters of an object.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A parameter of any type.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is neither; and so for the others.
    pub fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A string.
    pub fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(name, "a string", Value::as_str)
    }

    /// An array.
    pub fn list(self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.read(name, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// An object.
    pub fn object(self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.read(name, "an object", Value::as_object)
    }

    /// A number from `low` to `high`; `high` may be infinite.
    pub fn number(self, name: &str, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
        let wanted = match high.is_finite() {
            true => format!("a number from {low} to {high}"),
            false => format!("a number of at least {low}"),
        };
        self.read(name, &wanted, |value| {
            let number = value.as_f64().filter(|x| (low..=high).contains(x))? as f32;
            number.is_finite().then_some(number)
        })
    }

    /// An integer from `low` to `high`.
    pub fn integer(self, name: &str, low: i64, high: i64) -> Result<Option<i64>, ApiError> {
        let wanted = match high {
            i64::MAX => format!("an integer of at least {low}"),
            _ => format!("an integer from {low} to {high}"),
        };
        self.read(name, &wanted, |value| integer(value).filter(|x| (low..=high).contains(x)))
    }

    fn read<T>(
        self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(name, value, wanted))
    }
}

/// An integer, also where it is written `16.0`.
pub fn integer(value: &Value) -> Option<i64> {
    let whole = |x: &f64| x.fract() == 0.0 && x.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|x| x as i64))
}

/// The error of a value that is not what is wanted.
pub fn wrong(path: &str, value: &Value, wanted: &str) -> ApiError {
    let text = value.to_string();
    let shown: String = text.chars().take(60).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    ApiError::invalid(path, format!("{path} is {shown}{rest}; it must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message<T>(result: Result<T, ApiError>) -> String {
        result.err().unwrap().json()["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn values_are_read_by_type_and_range() {
        let body = json!({
            "yes": true, "name": "x", "list": [1], "half": 0.5, "two": 2.0, "nothing": null,
            "big": 1e300,
        });
        let fields = Fields(body.as_object().unwrap());
        assert_eq!(fields.flag("yes").unwrap(), Some(true));
        assert_eq!(fields.text("name").unwrap(), Some("x"));
        assert_eq!(fields.list("list").unwrap().unwrap().len(), 1);
        assert_eq!(fields.number("half", 0.0, 1.0).unwrap(), Some(0.5));
        assert_eq!(fields.integer("two", 0, 5).unwrap(), Some(2));
        assert_eq!(fields.integer("nothing", 0, 5).unwrap(), None);
        assert_eq!(fields.object("absent").unwrap(), None);
        let wrong = message(fields.integer("half", 0, 5));
        assert_eq!(wrong, "half is 0.5; it must be an integer from 0 to 5");
        let wrong = message(fields.number("two", 0.0, 1.0));
        assert_eq!(wrong, "two is 2.0; it must be a number from 0 to 1");
        let wrong = message(fields.number("big", 0.0, f64::INFINITY));
        assert!(wrong.ends_with("; it must be a number of at least 0"), "{wrong}");
        let wrong = message(fields.flag("name"));
        assert_eq!(wrong, "name is \"x\"; it must be true or false");
    }
}
