//! What an answer is held to, from the ways in which clients say it.
//!
//! In: `response_format` of OpenAI, `structured_outputs` and `guided_*` of vLLM, `grammar` and
//! `json_schema` of llama.cpp. Out: one compiled constraint, or an error that names the place in
//! what was sent.

use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::gbnf;
use crate::model::Model;
use crate::params::{Table, check};
use crate::tables::{JSON_SCHEMA, RESPONSE_FORMAT, STRUCTURED_OUTPUTS};
use serde_json::{Map, Value, json};
use sterna_engine::{Constraint, Wanted};

/// Regular expressions and grammars are no longer: compiling can take time that grows with the
/// square of what is written, and these take a second at most.
const MAX_REGEX_BYTES: usize = 8 << 10;
const MAX_GRAMMAR_BYTES: usize = 32 << 10;

/// A parameter, and what it asks for.
type Found = (String, Wanted);

/// Reads the parameters and compiles what they ask for.
///
/// # Errors
/// For what is wrong in one, and when there are several.
pub fn read(asked: &mut Asked) -> Result<Option<Constraint>, ApiError> {
    let mut found = Vec::new();
    found.extend(response_format(asked)?);
    found.extend(structured_outputs(asked)?);
    let fields = asked.fields();
    for (name, read) in KINDS {
        let name = format!("guided_{name}");
        if let Some(value) = fields.get(&name) {
            let wanted = read(&name, value)?;
            found.push((name, wanted));
        }
    }
    // llama.cpp's clients send an empty grammar for none.
    if let Some(value) = fields.get("grammar").filter(|value| **value != json!("")) {
        found.push(("grammar".into(), grammar("grammar", value)?));
    }
    if let Some(value) = fields.get("json_schema") {
        found.push(("json_schema".into(), schema("json_schema", value)?));
    }
    match found.as_slice() {
        [] => Ok(None),
        [(path, wanted)] => compile(&asked.model, path, wanted).map(Some),
        [(first, _), (second, _), ..] => {
            let message = format!("{first} and {second} both constrain the answer; send one");
            Err(ApiError::invalid(second, message))
        }
    }
}

/// Compiles what an answer is to be; `path` is where the client said so.
///
/// # Errors
/// When it is not valid, or too much: with the place in it.
pub fn compile(model: &Model, path: &str, wanted: &Wanted) -> Result<Constraint, ApiError> {
    let grammars = model.grammars().map_err(|why| ApiError::unsupported(path, why))?;
    grammars.compile(wanted).map_err(|(place, why)| {
        let path = format!("{path}{place}");
        let message = format!("{path} cannot be compiled: {why}");
        ApiError::invalid(path, message)
    })
}

type Read = fn(&str, &Value) -> Result<Wanted, ApiError>;

/// What vLLM can hold an answer to, by the names in `structured_outputs` and after `guided_`.
const KINDS: &[(&str, Read)] =
    &[("json", schema), ("regex", regex), ("choice", choice), ("grammar", grammar)];

fn response_format(asked: &mut Asked) -> Result<Option<Found>, ApiError> {
    let Some(format) = asked.fields().object("response_format")?.cloned() else { return Ok(None) };
    checked(asked, "response_format.", &format, RESPONSE_FORMAT)?;
    let path = "response_format.schema";
    let own = format.get("schema").filter(|schema| !schema.is_null());
    match format.get("type") {
        Some(Value::String(kind)) if kind == "text" => Ok(None),
        Some(Value::String(kind)) if kind == "json_object" => match own {
            // As llama.cpp has it.
            Some(schema) => Ok(Some((path.into(), self::schema(path, schema)?))),
            None => Ok(Some(("response_format".into(), any_object()))),
        },
        Some(Value::String(kind)) if kind == "json_schema" => {
            let Some(named) = Fields(&format).object("json_schema")?.cloned() else {
                let Some(schema) = own else {
                    return Err(missing("response_format.json_schema"));
                };
                return Ok(Some((path.into(), self::schema(path, schema)?)));
            };
            checked(asked, "response_format.json_schema.", &named, JSON_SCHEMA)?;
            let path = "response_format.json_schema.schema";
            let schema = named.get("schema").ok_or_else(|| missing(path))?;
            Ok(Some((path.into(), self::schema(path, schema)?)))
        }
        kind => {
            let kind = kind.unwrap_or(&Value::Null);
            Err(wrong("response_format.type", kind, "text, json_object or json_schema"))
        }
    }
}

fn missing(path: &str) -> ApiError {
    ApiError::invalid(path, format!("{path} is missing; it is an object with the JSON schema"))
}

fn structured_outputs(asked: &mut Asked) -> Result<Vec<Found>, ApiError> {
    let Some(wanted) = asked.fields().object("structured_outputs")?.cloned() else {
        return Ok(Vec::new());
    };
    checked(asked, "structured_outputs.", &wanted, STRUCTURED_OUTPUTS)?;
    let mut found = Vec::new();
    for (name, read) in KINDS {
        if let Some(value) = Fields(&wanted).get(name) {
            let path = format!("structured_outputs.{name}");
            let read = read(&path, value)?;
            found.push((path, read));
        }
    }
    if Fields(&wanted).flag("json_object")? == Some(true) {
        found.push(("structured_outputs.json_object".into(), any_object()));
    }
    Ok(found)
}

/// Holds an object in the body against its table.
fn checked(
    asked: &mut Asked,
    path: &str,
    object: &Map<String, Value>,
    table: Table,
) -> Result<(), ApiError> {
    let warnings = check(path, object, table, asked.is_strict)?;
    asked.warnings.extend(warnings);
    Ok(())
}

fn any_object() -> Wanted {
    Wanted::Json(json!({ "type": "object" }))
}

/// A schema, or as vLLM takes it too, its text.
fn schema(path: &str, value: &Value) -> Result<Wanted, ApiError> {
    let parsed = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    match parsed.as_ref().unwrap_or(value) {
        schema @ (Value::Object(_) | Value::Bool(_)) => {
            check_patterns(path, schema)?;
            Ok(Wanted::Json(schema.clone()))
        }
        _ => Err(wrong(path, value, "a JSON schema, which is an object")),
    }
}

/// Checks that no regular expression in a schema is longer than is compiled quickly.
///
/// # Errors
/// For the first that is, by its place.
pub fn check_patterns(path: &str, schema: &Value) -> Result<(), ApiError> {
    match schema {
        Value::Object(entries) => entries.iter().try_for_each(|(key, value)| {
            let is_pattern = key == "pattern" && value.is_string();
            let longest = if is_pattern { value.as_str().map_or(0, str::len) } else { key.len() };
            let path = format!("{path}.{}", key.chars().take(60).collect::<String>());
            bounded(&path, longest, MAX_REGEX_BYTES)?;
            check_patterns(&path, value)
        }),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| check_patterns(&format!("{path}[{index}]"), value)),
        _ => Ok(()),
    }
}

fn bounded(path: &str, n_bytes: usize, most: usize) -> Result<(), ApiError> {
    if n_bytes <= most {
        return Ok(());
    }
    let message = format!("{path} has {n_bytes} bytes; at most {most} are compiled");
    Err(ApiError::invalid(path, message))
}

fn regex(path: &str, value: &Value) -> Result<Wanted, ApiError> {
    let text = value.as_str().ok_or_else(|| wrong(path, value, "a regular expression"))?;
    bounded(path, text.len(), MAX_REGEX_BYTES)?;
    Ok(Wanted::Regex(text.to_owned()))
}

fn choice(path: &str, value: &Value) -> Result<Wanted, ApiError> {
    let wanted = "an array of texts, at least one";
    let values = value.as_array().filter(|values| !values.is_empty());
    let texts = values.ok_or_else(|| wrong(path, value, wanted))?.iter().map(|one| {
        let text = one.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| wrong(path, one, "a text that is not empty"))
    });
    Ok(Wanted::Choice(texts.collect::<Result<_, _>>()?))
}

/// A grammar: llama.cpp's GBNF, or llguidance's Lark.
fn grammar(path: &str, value: &Value) -> Result<Wanted, ApiError> {
    let text = value.as_str().ok_or_else(|| wrong(path, value, "a grammar, as a text"))?;
    bounded(path, text.len(), MAX_GRAMMAR_BYTES)?;
    if !gbnf::is_gbnf(text) {
        return Ok(Wanted::Lark(text.to_owned()));
    }
    let lark = gbnf::to_lark(text);
    let lark = lark.map_err(|why| ApiError::invalid(path, format!("{path} is no GBNF: {why}")))?;
    Ok(Wanted::Lark(lark))
}
