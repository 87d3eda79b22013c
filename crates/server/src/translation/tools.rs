//! Tools as other APIs list them: each one object, where the chat API has a function in it.

use super::{Checks, Translation, text};
use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::params::Table;
use serde_json::{Map, Value, json};

/// How an API lists tools.
pub struct Listing {
    /// What it calls the schema of arguments.
    pub parameters: &'static str,
    /// The type of tools that the client runs.
    pub kind: &'static str,
    /// Whether tools have that type where none is said.
    pub is_default: bool,
    /// What a tool may have.
    pub table: Table,
}

/// Puts `tools` into a chat's words.
///
/// # Errors
/// For a tool that the server would have to run, by its type, and for what is wrong in one.
pub fn list(
    asked: &Asked,
    said: &mut Translation,
    checks: &mut Checks,
    listing: &Listing,
) -> Result<(), ApiError> {
    let Some(list) = asked.fields().list("tools")? else { return Ok(()) };
    let mut tools = Vec::with_capacity(list.len());
    for (index, tool) in list.iter().enumerate() {
        let path = format!("tools[{index}]");
        let object = tool.as_object().ok_or_else(|| wrong(&path, tool, "an object"))?;
        match object.get("type").unwrap_or(&Value::Null) {
            Value::String(kind) if kind == listing.kind => {}
            Value::Null if listing.is_default => {}
            kind => return Err(foreign(&format!("{path}.type"), kind, listing.kind)),
        }
        let given = checks.object(&path, tool, listing.table)?;
        let theirs = [("name", "name"), ("description", "description"), ("strict", "strict")];
        let theirs = theirs.into_iter().chain([("parameters", listing.parameters)]);
        let function = theirs.filter_map(|(ours, theirs)| {
            Some((ours.to_owned(), Fields(given).get(theirs)?.clone()))
        });
        let function: Map<String, Value> = function.collect();
        tools.push(json!({ "type": "function", "function": function }));
        let ours = format!("{path}.function");
        said.called(format!("{ours}.parameters"), format!("{path}.{}", listing.parameters));
        said.called(ours, path);
    }
    said.set("tools", tools, "tools");
    Ok(())
}

fn foreign(path: &str, kind: &Value, ours: &str) -> ApiError {
    let message = format!(
        "{path} is {kind}; this server runs no tools itself, it takes those of the type {ours}, \
         which the client runs"
    );
    ApiError::unsupported(path, message)
}

/// Asks for a call of this tool.
///
/// # Errors
/// When the choice names none.
pub fn choose(said: &mut Translation, choice: &Map<String, Value>) -> Result<(), ApiError> {
    let name = text("tool_choice", choice, "name")?;
    let named = json!({ "type": "function", "function": { "name": name } });
    said.set("tool_choice", named, "tool_choice");
    said.called("tool_choice.function", "tool_choice");
    Ok(())
}
