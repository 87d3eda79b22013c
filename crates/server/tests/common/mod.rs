//! A server over a scripted engine, and a client that needs no socket.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod bodies;
pub mod scripted;
pub mod told;
pub mod vocabulary;

pub use scripted::{Scripted, models};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sterna_engine::{
    AgentStats, EngineError, FinishReason, Finished, Flushed, Guessed, Output, Pooling, Reply,
    Request, RequestId, SessionError, Sink, State, Stats, TokenLogprob,
};
use sterna_server::{Backend, Options, Served, router};
use tower::ServiceExt;
use vocabulary::byte;

/// Numbers below what is asked for, the same for a seed each time.
pub fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    }
}

/// What the engine does with a request.
pub enum Script {
    /// Says these, at once.
    Say(Vec<Output>),
    /// Says these, and then nothing until it is cancelled.
    SayThenWait(Vec<Output>),
    /// Does not take it.
    Refuse(EngineError),
    /// Takes it and says nothing.
    Wait,
    /// Panics.
    Panic,
}

type Writer = Box<dyn Fn(&Request) -> Script + Send + Sync>;

/// An engine that follows a script.
pub struct Fake {
    script: Writer,
    next_id: AtomicU64,
    held: Mutex<Vec<(RequestId, Sink)>>,
    /// What it says of itself, if not the same as ever.
    pub stats: Mutex<Option<Stats>>,
    /// What was submitted.
    pub requests: Mutex<Vec<Request>>,
    /// What was cancelled.
    pub cancelled: Mutex<Vec<RequestId>>,
}

impl Fake {
    fn take(&self, request: Request, mut sink: Sink) -> Result<RequestId, EngineError> {
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        match (self.script)(&request) {
            Script::Say(outputs) => {
                for output in outputs {
                    sink(output);
                }
            }
            Script::SayThenWait(outputs) => {
                for output in outputs {
                    sink(output);
                }
                self.held.lock().unwrap().push((id, sink));
            }
            Script::Refuse(error) => return Err(error),
            Script::Wait => self.held.lock().unwrap().push((id, sink)),
            Script::Panic => panic!("as the script says"),
        }
        self.requests.lock().unwrap().push(request);
        Ok(id)
    }
}

impl Backend for Fake {
    fn submit(&self, requests: Vec<(Request, Sink)>) -> Result<Vec<RequestId>, EngineError> {
        let mut ids = Vec::new();
        for (request, sink) in requests {
            match self.take(request, sink) {
                Ok(id) => ids.push(id),
                Err(why) => {
                    ids.into_iter().for_each(|id| self.cancel(id));
                    return Err(why);
                }
            }
        }
        Ok(ids)
    }

    fn cancel(&self, id: RequestId) {
        self.cancelled.lock().unwrap().push(id);
        let mut held = self.held.lock().unwrap();
        if let Some(at) = held.iter().position(|(of, _)| *of == id) {
            let mut end = finished();
            end.reason = FinishReason::Cancelled;
            held.remove(at).1(Output::Finished(end));
        }
    }

    fn stats(&self) -> Stats {
        if let Some(stats) = &*self.stats.lock().unwrap() {
            return stats.clone();
        }
        let agent = |name: &str, open, running| AgentStats {
            name: name.into(),
            open,
            running,
            ..AgentStats::default()
        };
        let agents = vec![agent("", 0, 0), agent("scout", 3, 1)];
        Stats {
            waiting: 2,
            running: 1,
            max_running: 8,
            prompt_tokens: 30,
            looked_up_tokens: 20,
            speculation: State::On,
            agents,
            ..Stats::default()
        }
    }

    fn fork(&self, session: &str, child: &str, reply: Reply<Result<usize, SessionError>>) {
        reply(match (session.ends_with("/known"), child.ends_with("/taken")) {
            (_, true) => Err(SessionError::Exists(child.to_owned())),
            (false, false) => Err(SessionError::Unknown(session.to_owned())),
            (true, false) => Ok(40),
        });
    }

    fn end_session(&self, session: &str, reply: Reply<bool>) {
        reply(session.ends_with("/known"));
    }

    fn flush(&self, reply: Reply<Flushed>) {
        reply(Flushed { answers: 2, pages: 3, disk_files: 4 });
    }
}

/// An answer of a token per byte of `text`, as the request limits it.
pub fn say(request: &Request, text: &str) -> Script {
    let logprob = |token: u32, n_top: usize| {
        // The token is the likeliest where it is a letter; `!` is, elsewhere.
        let best = if token < 256 && (token as u8).is_ascii_alphabetic() { token } else { 33 };
        let top = [(best, -0.25f32), (35, -2.0)].into_iter().take(n_top).collect();
        TokenLogprob { token, logprob: if best == token { -0.25 } else { -1.5 }, top }
    };
    let mut outputs = Vec::new();
    if let Some(n_top) = request.prompt_logprobs.filter(|_| request.prompt.len() > 1) {
        let rest = request.prompt[1..].iter();
        outputs.push(Output::Prompt(rest.map(|&token| logprob(token, n_top)).collect()));
    }
    let new_tokens = text.len().min(request.max_tokens);
    for &b in &text.as_bytes()[..new_tokens] {
        let logprob = request.logprobs.map(|n_top| logprob(byte(b), n_top));
        outputs.push(Output::Token { id: byte(b), text: char::from(b).to_string(), logprob });
    }
    let is_whole = new_tokens == text.len();
    outputs.push(Output::Finished(Finished {
        reason: if is_whole { FinishReason::Stop } else { FinishReason::Length },
        prompt_tokens: request.prompt.len(),
        new_tokens,
        embedding: request.embed.map(|_| vec![0.6, 0.0, 0.8]),
        predicted: (!request.prediction.is_empty()).then(Guessed::default),
        ..finished()
    }));
    Script::Say(outputs)
}

/// An end with some costs.
pub fn finished() -> Finished {
    Finished {
        reason: FinishReason::Stop,
        text: String::new(),
        prompt_tokens: 1,
        cached_tokens: 1,
        new_tokens: 0,
        queue_seconds: 0.001,
        prefill_seconds: 0.01,
        decode_seconds: 0.1,
        embedding: None,
        guessed: Guessed::default(),
        predicted: None,
        is_coalesced: false,
        age: None,
        stop_text: None,
    }
}

/// A template in the manner of ChatML.
pub const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n{% endfor %}{% if tools %}tools: {{ tools | tojson }}\n{% endif %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A clock that stands still.
pub fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_262_400)
}

/// An engine that follows `script`.
pub fn fake(script: impl Fn(&Request) -> Script + Send + Sync + 'static) -> Arc<Fake> {
    Arc::new(Fake {
        script: Box::new(script),
        next_id: AtomicU64::new(0),
        held: Mutex::default(),
        stats: Mutex::default(),
        requests: Mutex::default(),
        cancelled: Mutex::default(),
    })
}

/// A model of this engine.
pub fn served(name: &str, template: Option<&str>, engine: Arc<Fake>) -> Served {
    Served {
        name: name.into(),
        aliases: Vec::new(),
        tokenizer: Arc::new(vocabulary::tokenizer()),
        context_len: 100,
        chat_template: template.map(str::to_owned),
        pooling: Some(Pooling::Mean),
        is_encoder: false,
        bos: Some("<s>".into()),
        eos: None,
        fingerprint: "plan-build".into(),
        created: 7,
        engine,
        describe: "a fake".into(),
        memory: vec![("weights", 1_000)],
    }
}

/// A server and its engine.
pub struct Client {
    pub router: Router,
    pub fake: Arc<Fake>,
}

impl Client {
    /// A server of one model, `tiny`, with CHATML.
    pub fn new(script: impl Fn(&Request) -> Script + Send + Sync + 'static) -> Self {
        Self::with(Options::default(), Some(CHATML), script)
    }

    /// The same with options and another template.
    pub fn with(
        options: Options,
        template: Option<&str>,
        script: impl Fn(&Request) -> Script + Send + Sync + 'static,
    ) -> Self {
        let fake = fake(script);
        let mut served = served("tiny", template, fake.clone());
        served.aliases.push("org/tiny".into());
        let options = Options { now: noon, ..options };
        let models = Scripted::new(vec![served], Vec::new(), &options.agents);
        Self { router: router(models, options).unwrap(), fake }
    }

    /// Sends a request; the response's body is not read yet.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    /// Posts JSON with headers; the answer's status, headers and JSON.
    pub async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let response = self.send(Method::POST, path, headers, body.to_string()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = text(response).await;
        (status, headers, serde_json::from_str(&text).unwrap())
    }

    /// Posts JSON that is answered.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, _, answer) = self.post_with(path, &[], body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// Posts JSON that is refused: the status and the error object.
    pub async fn refused(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, _, mut answer) = self.post_with(path, &[], body).await;
        (status.as_u16(), answer["error"].take())
    }

    /// Gets a path: the status and the text.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let response = self.send(Method::GET, path, headers, String::new()).await;
        (response.status().as_u16(), text(response).await)
    }

    /// Posts JSON and reads the chunks of the stream; the last line of data must be `[DONE]`.
    pub async fn stream(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.send(Method::POST, path, &[], body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let text = text(response).await;
        let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let chunk = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap());
        events.into_iter().map(|event| chunk(event).unwrap()).collect()
    }

    /// Posts JSON and reads the events of the stream: their names and data. The name is in the data
    /// too, and there is no `[DONE]`.
    pub async fn events(&self, path: &str, body: Value) -> Vec<(String, Value)> {
        let response = self.send(Method::POST, path, &[], body.to_string()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = text(response).await;
        let event = |event: &str| {
            let (name, data) = event.split_once('\n').unwrap();
            let name = name.strip_prefix("event: ").unwrap().to_owned();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.as_str());
            (name, data)
        };
        text.split_terminator("\n\n").map(event).collect()
    }

    /// Posts JSON and reads lines of JSON.
    pub async fn lines(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.send(Method::POST, path, &[], body.to_string()).await;
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let text = text(response).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The only request that the engine got.
    pub fn only_request(&self) -> Request {
        let requests = self.fake.requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }
}

/// A response's body.
pub async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
