//! The same questions and answers in the words of every API.

use super::{Client, Script, fake, finished, noon, say, served, vocabulary};
use serde_json::{Value, json};
use sterna_engine::constraint::Held;
use sterna_engine::{Finished, Output, Request};
use sterna_server::{Options, router};

pub const CHAT: &str = "/v1/chat/completions";
pub const RESPONSES: &str = "/v1/responses";
pub const MESSAGES: &str = "/v1/messages";
pub const OLLAMA: &str = "/api/chat";
pub const APIS: [&str; 4] = [CHAT, RESPONSES, MESSAGES, OLLAMA];

/// A template in the manner of Qwen's: tools, thoughts, a switch for them, calls and results.
pub const QWEN: &str = "{% if tools %}<tool_call>{{ tools | tojson }}{% endif %}\
{% for message in messages %}{{ '\\n' }}{{ message.role }}:{% if message.reasoning_content %}<think>\
{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}\
{% for call in message.tool_calls or [] %}<call {{ call.id }} {{ call.function.name }} \
{{ call.function.arguments | tojson }}>{% endfor %}{% if message.tool_call_id %} for \
{{ message.tool_call_id }}{% endif %}{% endfor %}\
{% if enable_thinking is defined and not enable_thinking %}hush{% endif %}";

pub const ANSWER: &str = "<think>\nRain?\n</think>\n\nLet me look.\
                      <tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}</tool_call>";

/// A server of one model with room for long prompts.
pub fn roomy(
    options: Options,
    template: Option<&str>,
    script: impl Fn(&Request) -> Script + Send + Sync + 'static,
) -> Client {
    let fake = fake(script);
    let mut model = served("tiny", template, fake.clone());
    model.context_len = 10_000;
    let options = Options { now: noon, ..options };
    let models = super::models(model, &options);
    Client { router: router(models, options).unwrap(), fake }
}

pub fn qwen(answer: &'static str) -> Client {
    roomy(Options::default(), Some(QWEN), move |request| say(request, answer))
}

pub fn schema() -> Value {
    let properties = json!({ "city": { "enum": ["Bern", "Ulm"] } });
    json!({ "type": "object", "properties": properties, "required": ["city"],
            "additionalProperties": false })
}

/// The same question in the words of an API, with tools, for an answer of any length.
pub fn ask(api: &str, more: Value) -> Value {
    let turns = json!([{ "role": "user", "content": "a" }]);
    let function = json!({ "name": "weather", "description": "d", "parameters": schema() });
    let nested = json!([{ "type": "function", "function": function }]);
    let mut body = match api {
        RESPONSES => {
            let tool = json!({ "type": "function", "name": "weather", "description": "d",
                               "parameters": schema() });
            json!({ "input": turns, "tools": [tool] })
        }
        MESSAGES => {
            let tool = json!({ "name": "weather", "description": "d", "input_schema": schema() });
            let thinking = json!({ "type": "enabled" });
            json!({ "messages": turns, "tools": [tool], "max_tokens": 900, "thinking": thinking })
        }
        OLLAMA => json!({ "messages": turns, "tools": nested, "stream": false }),
        _ => json!({ "messages": turns, "tools": nested }),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub fn prompt(client: &Client) -> String {
    let requests = client.fake.requests.lock().unwrap();
    let bytes = requests.last().unwrap().prompt.iter();
    String::from_utf8(bytes.filter_map(|&token| u8::try_from(token).ok()).collect()).unwrap()
}

/// Whether an answer may be this text and end there.
pub fn may_be(request: &Request, text: &str) -> bool {
    let mut held = Held::new(request.constraint.as_ref().expect("a constraint"));
    for byte in text.bytes() {
        let byte = u32::from(byte);
        if held.is_over() || !held.allowed().unwrap().has(byte) {
            return false;
        }
        held.accept(byte).unwrap();
    }
    held.is_over() || held.allowed().unwrap().has(vocabulary::END)
}

/// What an answer says: thoughts, text, calls as `name arguments`, and why it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub thoughts: String,
    pub text: String,
    pub calls: Vec<String>,
    pub end: String,
}

impl Told {
    fn call(&mut self, name: &Value, arguments: &Value) {
        let arguments = match arguments {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            object => object.clone(),
        };
        self.calls.push(format!("{} {arguments}", name.as_str().unwrap()));
    }

    fn add(text: &mut String, value: &Value) {
        *text += value.as_str().unwrap_or_default();
    }

    /// Of a message of a chat, of OpenAI's or Ollama's, or what is new of one.
    fn message(&mut self, message: &Value, thoughts: &str) {
        Self::add(&mut self.thoughts, &message[thoughts]);
        Self::add(&mut self.text, &message["content"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            self.call(&call["function"]["name"], &call["function"]["arguments"]);
        }
    }

    pub fn whole(api: &str, answer: &Value) -> Self {
        let mut told = Self::default();
        match api {
            CHAT => {
                let choice = &answer["choices"][0];
                told.message(&choice["message"], "reasoning_content");
                Self::add(&mut told.end, &choice["finish_reason"]);
            }
            RESPONSES => {
                for item in answer["output"].as_array().unwrap() {
                    match item["type"].as_str().unwrap() {
                        "reasoning" => Self::add(&mut told.thoughts, &item["content"][0]["text"]),
                        "message" => Self::add(&mut told.text, &item["content"][0]["text"]),
                        _ => told.call(&item["name"], &item["arguments"]),
                    }
                }
                Self::add(&mut told.end, &answer["status"]);
            }
            MESSAGES => {
                for block in answer["content"].as_array().unwrap() {
                    match block["type"].as_str().unwrap() {
                        "thinking" => Self::add(&mut told.thoughts, &block["thinking"]),
                        "text" => Self::add(&mut told.text, &block["text"]),
                        _ => told.call(&block["name"], &block["input"]),
                    }
                }
                Self::add(&mut told.end, &answer["stop_reason"]);
            }
            _ => {
                told.message(&answer["message"], "thinking");
                Self::add(&mut told.end, &answer["done_reason"]);
            }
        }
        told
    }

    pub async fn streamed(client: &Client, api: &str, mut body: Value) -> Self {
        body["stream"] = true.into();
        let mut told = Self::default();
        match api {
            CHAT => {
                for chunk in client.stream(api, body).await {
                    told.message(&chunk["choices"][0]["delta"], "reasoning_content");
                    Self::add(&mut told.end, &chunk["choices"][0]["finish_reason"]);
                }
            }
            OLLAMA => {
                for line in client.lines(api, body).await {
                    told.message(&line["message"], "thinking");
                    Self::add(&mut told.end, &line["done_reason"]);
                }
            }
            RESPONSES => told.response_events(&client.events(api, body).await),
            _ => told.message_events(&client.events(api, body).await),
        }
        told
    }

    fn response_events(&mut self, events: &[(String, Value)]) {
        for (name, data) in events {
            match name.as_str() {
                "response.reasoning_text.delta" => Self::add(&mut self.thoughts, &data["delta"]),
                "response.output_text.delta" => Self::add(&mut self.text, &data["delta"]),
                "response.function_call_arguments.done" => {
                    self.call(&data["name"], &data["arguments"]);
                }
                _ => {}
            }
        }
        let last = &events.last().unwrap().1["response"];
        assert_eq!(Self::whole(RESPONSES, last).calls, self.calls, "it ends with all of it");
        Self::add(&mut self.end, &last["status"]);
    }

    fn message_events(&mut self, events: &[(String, Value)]) {
        let (mut name, mut arguments) = (Value::Null, String::new());
        for (event, data) in events {
            match event.as_str() {
                "content_block_start" => name = data["content_block"]["name"].clone(),
                "content_block_delta" => {
                    Self::add(&mut self.thoughts, &data["delta"]["thinking"]);
                    Self::add(&mut self.text, &data["delta"]["text"]);
                    Self::add(&mut arguments, &data["delta"]["partial_json"]);
                }
                "content_block_stop" if !name.is_null() => {
                    self.call(&name.take(), &std::mem::take(&mut arguments).into());
                }
                "message_delta" => Self::add(&mut self.end, &data["delta"]["stop_reason"]),
                _ => {}
            }
        }
    }
}

/// Says an answer in pieces, which end at these bytes.
pub fn say_cut(answer: &str, cuts: &[usize]) -> Script {
    let mut outputs = Vec::new();
    let mut bounds: Vec<usize> =
        cuts.iter().copied().filter(|&at| answer.is_char_boundary(at)).collect();
    bounds.extend([0, answer.len()]);
    bounds.sort_unstable();
    for pair in bounds.windows(2) {
        let text = answer[pair[0]..pair[1]].to_owned();
        outputs.push(Output::Token { id: 97, text, logprob: None });
    }
    // What is still held back comes with the end.
    let Some(Output::Token { text, .. }) = outputs.pop() else { panic!("there is one") };
    let new_tokens = outputs.len() + 1;
    outputs.push(Output::Finished(Finished { text, new_tokens, ..finished() }));
    Script::Say(outputs)
}

/// Requests that are refused, with what is wrong in each.
pub async fn check_refused<const N: usize>(api: &str, cases: [(Value, &str); N]) {
    let client = qwen("x");
    for (more, param) in cases {
        let (status, error) = client.refused(api, ask(api, more.clone())).await;
        let message = error["message"].as_str().or(error.as_str()).unwrap();
        assert_eq!(status, 400, "{more}: {message}");
        assert!(message.starts_with(param), "{param}: {message}");
        if api == RESPONSES {
            assert_eq!(error["param"], param);
        }
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
}
