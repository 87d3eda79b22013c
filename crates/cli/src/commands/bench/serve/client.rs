//! HTTP to one server: is it ready, what is its model, and streamed completions with the time at
//! which each piece of them came.

use super::answer::{Transcript, error_words};
use crate::show::bad_input;
use anyhow::Context;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::load::Failure;
use tokio::time::timeout;

/// A server's API.
pub struct Client {
    http: reqwest::Client,
    url: String,
    timeout: Duration,
    clock: RealClock,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can answer.
    Ready,
    /// It is there, but cannot yet.
    Loading,
    /// Nobody is there.
    Absent,
}

/// How long a server may take to say how it is.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

/// The most that is read of one answer, and of an error.
const MAX_STREAM_BYTES: usize = 256 << 20;
const MAX_ERROR_BYTES: usize = 64 << 10;

impl Client {
    /// Connects when it must.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(url: &str, key: Option<&Key>, timeout: Duration) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(Key(key)) = key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            // What is measured is the server, not a proxy.
            .no_proxy()
            .http1_only()
            // A connection for each request: one that is kept holds one of the server's threads
            // (llama-server) while another agent waits, and may close as the next request leaves.
            .pool_max_idle_per_host(0)
            .build()
            .context("setting up HTTP")?;
        Ok(Self { http, url: url.to_owned(), timeout, clock: RealClock::new() })
    }

    /// The time on the clock that all of its answers are measured by.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Asks the server how it is.
    pub async fn health(&self) -> Health {
        match self.get("/health").await.map(|response| response.status()) {
            None => Health::Absent,
            // Servers without such a path list their models once they are ready.
            Some(StatusCode::NOT_FOUND) => match self.get("/v1/models").await {
                Some(response) if response.status().is_success() => Health::Ready,
                _ => Health::Loading,
            },
            Some(status) if status.is_server_error() => Health::Loading,
            // Whatever else is wrong, such as a missing key, the first request will tell.
            Some(_) => Health::Ready,
        }
    }

    /// The first model that the server lists. Most servers with one model take any name.
    pub async fn first_model(&self) -> String {
        let listed = async {
            let mut response = self.get("/v1/models").await?;
            let list: Value = serde_json::from_slice(&start_of(&mut response).await).ok()?;
            Some(list["data"][0]["id"].as_str()?.to_owned())
        };
        listed.await.unwrap_or_else(|| "default".to_owned())
    }

    /// What Sterna says of its process: its share of memory, in bytes. `None` of others, and where
    /// the system does not say.
    pub async fn pss_bytes(&self) -> Option<u64> {
        let read = async { self.get("/api/v1/stats").await?.bytes().await.ok() };
        let body = timeout(SAYS_WITHIN, read).await.ok()??;
        serde_json::from_slice::<Value>(&body).ok()?["process"]["pss_bytes"].as_u64()
    }

    /// Sends a request and takes down what comes back. Nothing is read into it here: that is for
    /// when the stream has ended, so that other streams' times are not delayed.
    pub async fn complete(&self, agent: usize, body: String) -> Transcript {
        let mut transcript = Transcript::new(self.now());
        let ended = timeout(self.timeout, self.stream(agent, body, &mut transcript)).await;
        transcript.end = self.now();
        transcript.failure = match ended {
            Ok(ended) => ended.err(),
            Err(_) => Some(Failure::Timeout),
        };
        transcript
    }

    async fn stream(
        &self,
        agent: usize,
        body: String,
        transcript: &mut Transcript,
    ) -> Result<(), Failure> {
        let request = self.http.post(format!("{}/v1/completions", self.url));
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.header("x-agent-id", format!("agent-{agent}")).body(body);
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&mut response).await);
        }
        while let Some(piece) = response.chunk().await.map_err(|error| failure(&error))? {
            transcript.add(self.now(), &piece);
            if transcript.body.len() > MAX_STREAM_BYTES {
                let message = format!("it is longer than {} MiB", MAX_STREAM_BYTES >> 20);
                return Err(Failure::Broken { message });
            }
        }
        Ok(())
    }

    /// `None` where nobody answers.
    async fn get(&self, path: &str) -> Option<Response> {
        let request = self.http.get(format!("{}{path}", self.url));
        timeout(SAYS_WITHIN, request.send()).await.ok()?.ok()
    }
}

/// Why the server does not answer, from what it says instead.
async fn refusal(response: &mut Response) -> Failure {
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let status = response.status();
    let body = timeout(SAYS_WITHIN, start_of(response)).await.unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => error_words(&value),
        Err(_) if body.is_empty() => status.canonical_reason().unwrap_or("no reason").to_owned(),
        Err(_) => String::from_utf8_lossy(&body).chars().take(200).collect(),
    };
    Failure::Status { code: status.as_u16(), retry_after, message }
}

/// A body's first bytes, as far as they come.
async fn start_of(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    body
}

/// What an error of the connection is.
fn failure(error: &reqwest::Error) -> Failure {
    let outermost: &(dyn Error + 'static) = error;
    let causes: Vec<_> = std::iter::successors(Some(outermost), |&cause| cause.source()).collect();
    let is_refused = |cause: &&(dyn Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    if causes.iter().any(is_refused) {
        return Failure::Refused;
    }
    // The outer ones only say that something went wrong.
    let message = causes.last().map_or_else(String::new, ToString::to_string);
    match error.is_connect() {
        true => Failure::Unreachable { message },
        false => Failure::Broken { message },
    }
}

/// An API key, as the header that carries it; it is never printed.
pub struct Key(HeaderValue);

impl Key {
    /// The value of an environment variable.
    ///
    /// # Errors
    /// When it is not there, or cannot be sent.
    pub fn from_env(name: &str) -> anyhow::Result<Self> {
        let key = std::env::var(name).map_err(|_| {
            bad_input(format!("--api-key-env {name}: the environment has no such text; set it"))
        })?;
        let header = HeaderValue::from_str(&format!("Bearer {}", key.trim()));
        let mut header = header.map_err(|_| {
            bad_input(format!("--api-key-env {name}: its value cannot stand in an HTTP header"))
        })?;
        header.set_sensitive(true);
        Ok(Self(header))
    }
}
