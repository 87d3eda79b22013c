//! Chat templates: Jinja as Hugging Face's `transformers` renders it.
//!
//! In: a template's source, and variables. Out: the prompt's text. A template comes with a model
//! and may be hostile: it sees nothing but its variables, and has fuel for so many steps. That
//! bounds steps and not bytes: one that joins a text with itself again and again asks for memory
//! without bound, and minijinja has no limit for that.

use crate::date::strftime;
use crate::python::{Style, dumps};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::time::SystemTime;

/// Steps that rendering may take: a long conversation with many tools takes thousands.
const FUEL: u64 = 5_000_000;
/// What errors call the template.
const NAME: &str = "chat_template";

/// A parsed template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Parses a template; `now` is the clock behind `strftime_now`.
    ///
    /// # Errors
    /// When it is not valid: the parser's sentence, with the line.
    pub fn new(source: &str, now: fn() -> SystemTime) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: String| {
            strftime(now(), &format).map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
        });
        let added = environment.add_template_owned(NAME, without_generation(source));
        added.map_err(|error| error.to_string())?;
        Ok(Self { environment, source: source.to_owned() })
    }

    /// The text for these variables.
    ///
    /// # Errors
    /// What the template raised, or why it could not be rendered.
    pub fn render(&self, variables: &[(&str, serde_json::Value)]) -> Result<String, String> {
        let variables = variables.iter().map(|(name, value)| (*name, Value::from(Serde(value))));
        let template = self.environment.get_template(NAME).map_err(|error| error.to_string())?;
        template.render(Value::from_pairs(variables)).map_err(|error| sentence(&error))
    }

    /// The template itself.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// An error's message; what `raise_exception` was given is shown alone.
fn sentence(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        _ => error.to_string(),
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `tojson` with the arguments that `transformers` gives it. Unlike Jinja's own it escapes nothing
/// for HTML.
fn tojson(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let ensure_ascii: Option<bool> = arguments.get("ensure_ascii")?;
    let sort_keys: Option<bool> = arguments.get("sort_keys")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let mut style = Style::new(indent);
    style.ensure_ascii = ensure_ascii.unwrap_or(false);
    style.sort_keys = sort_keys.unwrap_or(false);
    if let Some(separators) = separators {
        let wrong = |_| Error::new(ErrorKind::InvalidOperation, "separators are two texts");
        let pair: [String; 2] = separators.try_into().map_err(wrong)?;
        style.separators = pair.into();
    }
    arguments.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}")))?;
    Ok(Value::from(dumps(&json, &style)))
}

/// A template whose `{% generation %}` tags, which mark the assistant's text for training, are
/// conditions that always hold: so their trimming of white space stays as it is.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let end = tag.find("%}").unwrap_or(tag.len());
        let words = tag[..end].trim_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        let replaced = match words {
            "generation" => tag[..end].replace("generation", "if true"),
            "endgeneration" => tag[..end].replace("endgeneration", "endif"),
            _ => tag[..end].to_owned(),
        };
        out.push_str(&replaced);
        rest = &tag[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn render(source: &str, variables: &[(&str, serde_json::Value)]) -> Result<String, String> {
        ChatTemplate::new(source, now)?.render(variables)
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work() {
        let source = concat!(
            "{% for m in messages %}\n    {% if not loop.first %}|{% endif %}\n",
            "{{ m.role.upper() }}: {{ m['content'].strip() }}\n",
            "{%- if m.content.startswith('stop') %}{% break %}{% endif %}\n{% endfor %}\n",
        );
        let messages = json!([
            { "role": "user", "content": " hi " },
            { "role": "x", "content": "stop" },
            { "role": "y", "content": "never" },
        ]);
        let text = render(source, &[("messages", messages)]).unwrap();
        assert_eq!(text, "USER: hi|X: stop");
    }

    #[test]
    fn json_has_the_order_and_the_spaces_of_python() {
        let tool = json!({ "name": "f", "b": [1, 2.0], "a": "<é'>" });
        let variables = [("tool", tool)];
        let text = render("{{ tool | tojson }}", &variables).unwrap();
        assert_eq!(text, r#"{"name": "f", "b": [1, 2.0], "a": "<é'>"}"#);
        let text = render("{{ tool | tojson(indent=1, sort_keys=true) }}", &variables).unwrap();
        assert!(text.starts_with("{\n \"a\": \"<é'>\",\n \"b\": [\n  1,\n  2.0\n ],"), "{text}");
        let source = "{{ tool.b | tojson(separators=(',', ':'), ensure_ascii=False) }}";
        assert_eq!(render(source, &variables).unwrap(), "[1,2.0]");
        let error = render("{{ tool | tojson(colour='red') }}", &variables).unwrap_err();
        assert!(error.contains("colour"), "{error}");
    }

    #[test]
    fn what_a_template_raises_is_the_error() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert_eq!(error, "roles must alternate");
        let error = render(
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            &[],
        );
        assert_eq!(error.unwrap_err(), "it takes more than 5000000 steps");
        let error = render("{% if %}", &[]).unwrap_err();
        assert!(error.contains("chat_template:1"), "{error}");
    }

    #[test]
    fn dates_and_absent_variables() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap(), "21 Nov 2026");
        let source = "{% if tools is not none %}tools{% endif %}{{ absent }}.";
        assert_eq!(render(source, &[("tools", json!(null))]).unwrap(), ".");
    }

    #[test]
    fn generation_tags_leave_no_trace_but_their_trimming() {
        let source =
            "a {%- generation -%} b {%- endgeneration %} c{% generation %}d{% endgeneration %}";
        assert_eq!(render(source, &[]).unwrap(), "ab cd");
        assert_eq!(without_generation("{% set generation = 1 %}{%"), "{% set generation = 1 %}{%");
    }
}
