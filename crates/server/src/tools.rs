//! The tools that a model may call, and whether it must.
//!
//! In: `tools`, `tool_choice` and `parallel_tool_calls`. Out: what the chat template shows, the
//! names that calls may have, and where a call is wanted in any case, a grammar in which nothing
//! but calls can be written.

use crate::asked::Asked;
use crate::calls::{Format, Frame};
use crate::constraints::{check_patterns, compile};
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::model::Model;
use crate::tables::{NAMED_CHOICE, NAMED_FUNCTION};
use crate::translation::Checks;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use sterna_engine::grammar::readable;
use sterna_engine::{Constraint, Wanted};

/// Names of tools are no longer.
const MAX_NAME_LEN: usize = 128;

/// Keys of tools that templates know, and of the function in them.
const KEYS: [&str; 2] = ["type", "function"];
const FUNCTION_KEYS: [&str; 4] = ["name", "description", "parameters", "strict"];

/// What is said about calls.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    /// There are none.
    None,
    /// The model decides.
    Auto,
    /// One at least, of any tool.
    Required,
    /// Of this tool.
    Named(usize),
}

/// A tool.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    parameters: Value,
}

/// The tools of a request.
#[derive(Clone, Debug)]
pub struct Tools {
    /// As the template sees them; null where it sees none.
    pub shown: Value,
    functions: Vec<Function>,
    choice: Choice,
    is_parallel: bool,
}

impl Tools {
    /// Reads the parameters.
    ///
    /// # Errors
    /// For what is wrong in them, by path.
    pub fn read(asked: &mut Asked) -> Result<Self, ApiError> {
        let fields = asked.fields();
        let list = fields.list("tools")?.unwrap_or_default();
        let mut functions: Vec<Function> = Vec::with_capacity(list.len());
        let (mut strict, mut names, mut checks) = (None, HashSet::new(), Checks::new(asked));
        for (index, tool) in list.iter().enumerate() {
            let (function, is_strict) = function(&format!("tools[{index}]"), tool, &mut checks)?;
            if !names.insert(function.name.clone()) {
                let path = format!("tools[{index}].function.name");
                let message = format!("{path}: there is a tool `{}` already", function.name);
                return Err(ApiError::invalid(path, message));
            }
            strict = strict.or(is_strict.then_some(index));
            functions.push(function);
        }
        let choice = choice(fields.get("tool_choice"), &functions, &mut checks)?;
        let is_parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let is_shown = choice != Choice::None && !functions.is_empty();
        let shown = if is_shown { Value::Array(list.to_vec()) } else { Value::Null };
        asked.warnings.extend(checks.warnings);
        let mut tools = Self { shown, functions, choice, is_parallel };
        tools.warn(asked, strict)?;
        Ok(tools)
    }

    /// Says what will not be as asked.
    fn warn(&mut self, asked: &mut Asked, strict: Option<usize>) -> Result<(), ApiError> {
        if self.shown.is_null() {
            return Ok(());
        }
        if let Some(index) = strict.filter(|_| self.choice == Choice::Auto) {
            let path = format!("tools[{index}].function.strict");
            let warning = format!(
                "{path} is ignored: arguments are held to their schema only where tool_choice is \
                 `required` or names the tool"
            );
            asked.warn(&path, warning)?;
        }
        if asked.model.template_source().contains("tools") {
            return Ok(());
        }
        let warning = "tools is ignored: this model's chat template shows the model no tools";
        let but = "; a call is enforced all the same, by a model that was not told what for";
        match self.choice {
            Choice::Auto => {
                self.choice = Choice::None;
                asked.warn("tools", warning.into())
            }
            _ => asked.warn("tools", format!("{warning}{but}")),
        }
    }

    /// The tools that an answer may call; none where calls are not looked for.
    pub fn names(&self) -> Vec<String> {
        if self.choice == Choice::None {
            return Vec::new();
        }
        self.functions.iter().map(|function| function.name.clone()).collect()
    }

    /// How many calls an answer may have.
    pub fn most_calls(&self) -> usize {
        if self.is_parallel { usize::MAX } else { 1 }
    }

    /// The grammar of an answer that must be calls.
    ///
    /// # Errors
    /// When the schema of a tool's parameters is wrong: with its place.
    pub fn constraint(
        &self,
        model: &Model,
        format: &dyn Format,
    ) -> Result<Option<Constraint>, ApiError> {
        let (wanted, first) = match self.choice {
            Choice::None | Choice::Auto => return Ok(None),
            Choice::Required => (self.functions.as_slice(), 0),
            Choice::Named(index) => (&self.functions[index..=index], index),
        };
        let grammar = grammar(format.frame(), wanted, self.is_parallel);
        compile(model, "tools", &Wanted::Lark(grammar)).map(Some).map_err(|error| {
            // Each schema by itself tells which one is wrong.
            let each = (first..).zip(wanted);
            let own = each.filter_map(|(index, function)| {
                let path = format!("tools[{index}].function.parameters");
                compile(model, &path, &Wanted::Json(function.parameters.clone())).err()
            });
            { own }.next().unwrap_or(error)
        })
    }
}

fn function(path: &str, tool: &Value, checks: &mut Checks) -> Result<(Function, bool), ApiError> {
    let object = |path: &str, value: &Value| match value.as_object() {
        Some(object) => Ok::<Map<String, Value>, ApiError>(object.clone()),
        None => Err(wrong(path, value, "an object")),
    };
    let tool = object(path, tool)?;
    if Fields(&tool).text("type")?.is_some_and(|kind| kind != "function") {
        return Err(ApiError::unsupported(path, "only tools of the type function are known"));
    }
    checks.shown(path, &tool, &KEYS)?;
    let path = format!("{path}.function");
    let function = object(&path, tool.get("function").unwrap_or(&Value::Null))?;
    let name = function.get("name").unwrap_or(&Value::Null);
    let wanted = format!("a text of 1 to {MAX_NAME_LEN} bytes");
    let fits = |name: &&str| !name.is_empty() && name.len() <= MAX_NAME_LEN;
    let known = name.as_str().filter(fits);
    let name = known.ok_or_else(|| wrong(&format!("{path}.name"), name, &wanted))?.to_owned();
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => json!({ "type": "object", "maxProperties": 0 }),
        Some(schema @ Value::Object(_)) => {
            check_patterns(&format!("{path}.parameters"), schema)?;
            schema.clone()
        }
        Some(other) => {
            let path = format!("{path}.parameters");
            return Err(wrong(&path, other, "a JSON schema, which is an object"));
        }
    };
    checks.shown(&path, &function, &FUNCTION_KEYS)?;
    let is_strict = Fields(&function).flag("strict")?.unwrap_or(false);
    Ok((Function { name, parameters }, is_strict))
}

fn choice(
    given: Option<&Value>,
    functions: &[Function],
    checks: &mut Checks,
) -> Result<Choice, ApiError> {
    let needs_tools = |choice: Choice| match functions.is_empty() {
        true => {
            Err(ApiError::invalid("tool_choice", "tool_choice wants a call, but tools is empty"))
        }
        false => Ok(choice),
    };
    let Some(given) = given else { return Ok(Choice::Auto) };
    match given {
        Value::String(text) if text == "none" => Ok(Choice::None),
        Value::String(text) if text == "auto" => Ok(Choice::Auto),
        Value::String(text) if text == "required" => needs_tools(Choice::Required),
        Value::Object(object) if object.get("type") == Some(&json!("function")) => {
            checks.object("tool_choice", given, NAMED_CHOICE)?;
            if let Some(function) = object.get("function").filter(|function| function.is_object()) {
                checks.object("tool_choice.function", function, NAMED_FUNCTION)?;
            }
            let name = given.pointer("/function/name").unwrap_or(&Value::Null);
            let index = functions.iter().position(|function| *name == function.name);
            let path = "tool_choice.function.name";
            let known: Vec<&str> = functions.iter().map(|f| f.name.as_str()).collect();
            let wanted = format!("one of the tools: {}", known.join(", "));
            needs_tools(Choice::Named(index.ok_or_else(|| wrong(path, name, &wanted))?))
        }
        other => {
            let wanted = "none, auto, required or \
                          {\"type\": \"function\", \"function\": {\"name\": NAME}}";
            Err(wrong("tool_choice", other, wanted))
        }
    }
}

/// Calls and nothing else, in llguidance's Lark. Each schema is a grammar of its own, so that its
/// references are found from its own root.
fn grammar(frame: Frame, functions: &[Function], is_parallel: bool) -> String {
    let text = |text: String| Value::from(text).to_string();
    let more = match is_parallel {
        true => format!(" ({} call)*", text(frame.between.into())),
        false => String::new(),
    };
    let (first, last) = (text(frame.first.into()), text(frame.last.into()));
    let mut lark = format!("start: {first} call{more} {last}\n");
    let calls = functions.iter().enumerate().map(|(index, function)| {
        let name = Value::from(function.name.clone());
        let before = format!("{}{{\"name\": {name}, \"{}\": ", frame.open, frame.key);
        let after = format!("}}{}", frame.close);
        format!("{} arguments_{index} {}", text(before), text(after))
    });
    lark += &format!("call: {}\n", calls.collect::<Vec<_>>().join(" | "));
    for (index, function) in functions.iter().enumerate() {
        lark += &format!("arguments_{index}: %json {}\n", readable(&function.parameters));
    }
    lark
}
