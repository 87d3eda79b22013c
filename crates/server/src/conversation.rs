//! A conversation, from the messages of a body to the tokens of a prompt.
//!
//! In: `messages`, `tools` and what else a template sees. Out: a [`Prompt`], whose text is what the
//! template wrote, and in whose tokens nothing that a client wrote has become a control token
//! (`controls.rs`). What is checked here is the shape; which roles may follow each other is for the
//! template to say.

use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::wrong;
use crate::marks;
use crate::model::Model;
use crate::tables::CHAT_PART;
use crate::tools::Tools;
use crate::translation::Checks;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// Roles of messages. Templates make control tokens of them, so there are no others.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
/// Keys of messages that templates know.
const KEYS: [&str; 10] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
];
/// Keys of calls in them, and of the function that is called.
const CALL_KEYS: [&str; 4] = ["id", "type", "function", "index"];
const CALLED_KEYS: [&str; 2] = ["name", "arguments"];
/// Names of what the assistant thought, in messages of clients and in templates.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Variables of a template that are set here.
const RESERVED: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

/// What a template is shown.
#[derive(Clone, Debug)]
pub struct Conversation {
    messages: Vec<Map<String, Value>>,
    /// What may be called.
    pub tools: Tools,
    variables: Map<String, Value>,
    add_generation_prompt: bool,
}

impl Conversation {
    /// Reads the messages and what belongs to them.
    ///
    /// # Errors
    /// For what is wrong in them, by path, as `messages[2].content[0].type`.
    pub fn read(asked: &mut Asked) -> Result<Self, ApiError> {
        let messages = messages(asked)?;
        let tools = Tools::read(asked)?;
        let fields = asked.fields();
        let variables = fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
        if let Some(name) = variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
            let message = format!("chat_template_kwargs.{name} is set by the server; remove it");
            return Err(ApiError::invalid("chat_template_kwargs", message));
        }
        let add_generation_prompt = fields.flag("add_generation_prompt")?.unwrap_or(true);
        if asked.model.template.is_none() {
            let warning = "this model has no chat template: its prompt is a line of `role: \
                           content` for each message";
            asked.warnings.push(warning.into());
        }
        Ok(Self { messages, tools, variables, add_generation_prompt })
    }

    /// Writes the prompt, by the model's template or, where it has none, as lines of
    /// `role: content` and, for the answer, `assistant:`.
    ///
    /// # Errors
    /// When the template cannot or will not render these messages.
    pub fn render(&self, model: &Model) -> Result<Prompt, ApiError> {
        let mark = self.mark(model)?;
        let controls = model.controls();
        let message = |message| marks::guard_message(controls, message, mark);
        let messages: Vec<Value> = self.messages.iter().map(message).collect();
        let Some(template) = &model.template else {
            let marked = lines(&messages, self.add_generation_prompt);
            return Ok(Prompt { marked, mark });
        };
        let text = |text: &Option<String>| Value::from(text.clone().unwrap_or_default());
        let mut variables = vec![
            ("messages", Value::Array(messages)),
            ("tools", marks::guard(controls, &self.tools.shown, mark)),
            ("documents", Value::Null),
            ("add_generation_prompt", self.add_generation_prompt.into()),
            ("bos_token", text(&model.served.bos)),
            ("eos_token", text(&model.served.eos)),
        ];
        for (name, value) in &self.variables {
            variables.push((name.as_str(), marks::guard(controls, value, mark)));
        }
        let marked = template.render(&variables).map_err(|why| {
            let message = format!("the chat template cannot render these messages: {why}");
            ApiError::new(StatusCode::BAD_REQUEST, "template_error", message).about("messages")
        })?;
        Ok(Prompt { marked, mark })
    }

    /// How many of a prompt's tokens are those of the system's messages at its beginning, whatever
    /// follows: none where the template does not render them alone.
    pub fn system_tokens(&self, model: &Model, prompt: &[u32]) -> usize {
        let is_system = |message: &&Map<String, Value>| {
            matches!(message["role"].as_str(), Some("system" | "developer"))
        };
        let messages: Vec<_> = self.messages.iter().take_while(is_system).cloned().collect();
        if messages.is_empty() {
            return 0;
        }
        let system = Self { messages, add_generation_prompt: false, ..self.clone() };
        let Ok(alone) = system.render(model) else { return 0 };
        let alone = alone.tokens(model);
        alone.iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// A mark that neither the client nor the template wrote.
    fn mark(&self, model: &Model) -> Result<char, ApiError> {
        let mut texts = Vec::new();
        for (key, value) in self.messages.iter().flatten().chain(&self.variables) {
            texts.push(key.as_str());
            marks::texts(value, &mut texts);
        }
        marks::texts(&self.tools.shown, &mut texts);
        texts.extend(model.template.iter().map(|template| template.source()));
        marks::choose(texts).ok_or_else(|| {
            let message = "the messages use every character of Unicode's plane 15; leave one out";
            ApiError::invalid("messages", message)
        })
    }
}

/// A rendered prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    marked: String,
    mark: char,
}

impl Prompt {
    /// What the template wrote.
    pub fn text(&self) -> String {
        self.marked.replace(self.mark, "")
    }

    /// Whether the template ends it with this text.
    pub fn ends_with(&self, text: &str) -> bool {
        self.marked.trim_end().ends_with(text)
    }

    /// Its tokens; BOS comes first where the model expects it and the template wrote none.
    pub fn tokens(&self, model: &Model) -> Vec<u32> {
        let tokenizer = &model.served.tokenizer;
        let mut tokens = model.controls().encode(tokenizer, &self.marked, self.mark);
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        if let Some(bos) = bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        tokens
    }
}

/// The prompt of a model without a template.
fn lines(messages: &[Value], add_generation_prompt: bool) -> String {
    let mut text = String::new();
    for message in messages {
        let part = |key: &str| message[key].as_str().unwrap_or_default();
        text += &format!("{}: {}\n", part("role"), part("content"));
    }
    if add_generation_prompt {
        text += "assistant:";
    }
    text
}

fn messages(asked: &mut Asked) -> Result<Vec<Map<String, Value>>, ApiError> {
    let Some(list) = asked.fields().list("messages")? else {
        return Err(ApiError::invalid("messages", "messages is missing; send at least one"));
    };
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty; send at least one"));
    }
    let source = asked.model.template_source();
    let knows_developer = source.contains("developer");
    let looks_up = |name: &&str| {
        let ways = [format!(".{name}"), format!("'{name}'"), format!("\"{name}\"")];
        ways.iter().any(|way| source.contains(way))
    };
    let thoughts = THOUGHTS.into_iter().find(looks_up);
    let mut checks = Checks::new(asked);
    let mut messages = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let path = format!("messages[{index}]");
        let message = value.as_object().ok_or_else(|| wrong(&path, value, "an object"))?;
        let mut message = self::message(&path, message, knows_developer, &mut checks)?;
        name_thoughts(&mut message, thoughts);
        messages.push(message);
    }
    asked.warnings.extend(checks.warnings);
    Ok(messages)
}

/// A message as templates expect it: its content a text, the arguments of its tool calls objects.
fn message(
    path: &str,
    given: &Map<String, Value>,
    knows_developer: bool,
    checks: &mut Checks,
) -> Result<Map<String, Value>, ApiError> {
    let mut message = given.clone();
    let role_path = format!("{path}.role");
    let wanted = ROLES.join(", ");
    let role = given.get("role").unwrap_or(&Value::Null);
    let role = role
        .as_str()
        .filter(|role| ROLES.contains(role))
        .ok_or_else(|| wrong(&role_path, role, &format!("one of {wanted}")))?;
    // OpenAI's newer name of the same role.
    if role == "developer" && !knows_developer {
        message.insert("role".into(), "system".into());
    }
    let content = content(&format!("{path}.content"), given.get("content"), role, checks)?;
    message.insert("content".into(), content.into());
    if given.get("audio").is_some_and(|audio| !audio.is_null()) {
        let audio_path = format!("{path}.audio");
        return Err(ApiError::unsupported(audio_path, "this server reads text only"));
    }
    checks.shown(path, given, &KEYS)?;
    if let Some(calls) = message.get_mut("tool_calls").filter(|calls| !calls.is_null()) {
        open_calls(&format!("{path}.tool_calls"), calls, checks)?;
    }
    Ok(message)
}

/// Gives what the assistant thought the name by which the template looks it up, if it does.
fn name_thoughts(message: &mut Map<String, Value>, name: Option<&str>) {
    let Some(name) = name.filter(|name| !message.contains_key(*name)) else { return };
    if let Some(thoughts) = THOUGHTS.into_iter().find_map(|theirs| message.remove(theirs)) {
        message.insert(name.to_owned(), thoughts);
    }
}

/// Calls that the model made before, with their arguments opened.
fn open_calls(path: &str, calls: &mut Value, checks: &mut Checks) -> Result<(), ApiError> {
    let wanted = "an array of calls, each with a function that has a name and arguments";
    let Value::Array(calls) = calls else { return Err(wrong(path, calls, wanted)) };
    for (index, call) in calls.iter_mut().enumerate() {
        if call.pointer("/function/name").is_none_or(|name| !name.is_string()) {
            return Err(wrong(&format!("{path}[{index}]"), call, "a call of a function by name"));
        }
        let path = format!("{path}[{index}]");
        if let (Some(object), Some(function)) = (call.as_object(), call["function"].as_object()) {
            checks.shown(&path, object, &CALL_KEYS)?;
            checks.shown(&format!("{path}.function"), function, &CALLED_KEYS)?;
        }
        open_arguments(call);
    }
    Ok(())
}

/// The text of a message: as it is, or the lines of its text parts.
fn content(
    path: &str,
    content: Option<&Value>,
    role: &str,
    checks: &mut Checks,
) -> Result<String, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        // An assistant's message may be tool calls alone.
        None | Some(Value::Null) if role == "assistant" => Ok(String::new()),
        Some(Value::Array(parts)) => {
            let part = |(index, part)| text_of(&format!("{path}[{index}]"), part, checks);
            let texts: Vec<&str> = parts.iter().enumerate().map(part).collect::<Result<_, _>>()?;
            Ok(texts.join("\n"))
        }
        other => {
            let value = other.unwrap_or(&Value::Null);
            Err(wrong(path, value, "a text or an array of parts with texts"))
        }
    }
}

fn text_of<'a>(path: &str, part: &'a Value, checks: &mut Checks) -> Result<&'a str, ApiError> {
    if let Value::String(text) = part {
        return Ok(text);
    }
    let object = part.as_object().ok_or_else(|| wrong(path, part, "an object with a type"))?;
    let kind_path = format!("{path}.type");
    match object.get("type").unwrap_or(&Value::Null) {
        Value::String(kind) if kind == "text" => {
            let part = checks.object(path, part, CHAT_PART)?;
            let text = part.get("text").unwrap_or(&Value::Null);
            text.as_str().ok_or_else(|| wrong(&format!("{path}.text"), text, "a text"))
        }
        Value::String(kind) => {
            let message = format!("{kind_path} is \"{kind}\"; this server reads text only");
            Err(ApiError::unsupported(kind_path, message))
        }
        other => Err(wrong(&kind_path, other, "text")),
    }
}

/// Arguments of a tool call come as JSON text; templates write them as JSON, so they must be
/// objects then, or they would be written as a text of JSON.
fn open_arguments(call: &mut Value) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
    let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(object @ Value::Object(_)) = parsed {
        *arguments = object;
    }
}
