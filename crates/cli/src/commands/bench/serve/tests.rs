//! The whole command against a server of a few lines, over real sockets.

use super::*;
use clap::Parser;
use serde_json::Value;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Args {
    let words = std::iter::once("serve").chain(words.iter().copied());
    Command::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args
}

fn summary(words: &[&str]) -> Summary {
    measure(&args(words)).unwrap().servers[0].summary.clone()
}

/// The agent and the body of each completion that a server saw.
type Seen = Arc<Mutex<Vec<(usize, Value)>>>;

/// A server on a thread of its own; it ends with the tests.
fn start_server() -> (String, Seen) {
    let seen = Seen::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, Arc::clone(&shared)));
            }
        });
    });
    (url, seen)
}

async fn respond(mut stream: TcpStream, seen: Seen) {
    let (head, body) = request_of(&mut stream).await;
    let whole = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let reply = match &head {
        head if head.starts_with("GET /health ") => whole("200 OK", "ok"),
        head if head.starts_with("GET /v1/models ") => {
            whole("200 OK", r#"{"data": [{"id": "tiny"}]}"#)
        }
        // It takes a megabyte for each completion that it ever saw.
        head if head.starts_with("GET /api/v1/stats ") => {
            let bytes = seen.lock().unwrap().len() * 1_000_000;
            whole("200 OK", &format!(r#"{{"process": {{"pss_bytes": {bytes}}}}}"#))
        }
        head => {
            let agent = head.split("x-agent-id: agent-").nth(1).unwrap();
            let agent = agent.split("\r\n").next().unwrap().parse().unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            seen.lock().unwrap().push((agent, body));
            match agent {
                1 => whole("429 Too Many\r\nretry-after: 3", r#"{"error": {"message": "busy"}}"#),
                _ => return stream_to(agent, &mut stream).await.unwrap_or_default(),
            }
        }
    };
    stream.write_all(reply.as_bytes()).await.unwrap_or_default();
}

async fn request_of(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return (head, bytes[end + 4..].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return ("GET /health ".into(), Vec::new());
        }
    }
}

/// Three tokens, the second in two packets that part within a character; agent 2's stream breaks
/// off, agent 3's has an error, agent 4's never goes on, agent 5's has no tokens.
async fn stream_to(agent: usize, stream: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let token = "data: {\"choices\": [{\"text\": \"ä\", \"finish_reason\": null}]}\n\n";
    let within = token.find('ä').unwrap() + 1;
    let usage = "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 40, \"completion_tokens\": \
                 3, \"prompt_tokens_details\": {\"cached_tokens\": 32}}}\n\n";
    if agent != 5 {
        sleep(Duration::from_millis(20)).await;
        stream.write_all(token.as_bytes()).await?;
        sleep(Duration::from_millis(20)).await;
    }
    match agent {
        2 => return Ok(()),
        3 => stream.write_all(b"data: {\"error\": {\"message\": \"no memory\"}}\n\n").await?,
        4 => sleep(Duration::from_secs(30)).await,
        5 => return stream.write_all(b"data: [DONE]\n\n").await,
        _ => {
            stream.write_all(&token.as_bytes()[..within]).await?;
            sleep(Duration::from_millis(20)).await;
            stream.write_all(&token.as_bytes()[within..]).await?;
            stream.write_all(token.as_bytes()).await?;
        }
    }
    stream.write_all(usage.as_bytes()).await?;
    stream.write_all(b"data: [DONE]\n\n").await
}

#[test]
fn agents_are_answered_and_what_was_sent_is_what_was_asked() {
    let (url, seen) = start_server();
    let words =
        ["--url", &url, "--agents", "1", "--requests-per-agent", "3", "--prefix-tokens", "32"];
    let words =
        [&words[..], &["--own-tokens", "8", "--gen-tokens", "3", "--slo", "ttft=5s"]].concat();
    let summary = summary(&words);
    assert_eq!((summary.n_done, summary.n_failed, summary.n_short), (3, 0, 0), "{summary:?}");
    assert_eq!((summary.generated_tokens, summary.cached_prompt_tokens), (9, Some(96)));
    assert_eq!(summary.goodput.unwrap().share, 1.0);
    let ttft = summary.ttft.unwrap();
    assert!(ttft.p50 >= 0.02 && ttft.max < summary.wall_seconds, "{ttft:?}");
    let seen = seen.lock().unwrap();
    // One to warm up, then three.
    assert_eq!(seen.len(), 4);
    let prompt = |i: usize| seen[i].1["prompt"].as_array().unwrap().clone();
    for i in 1..4 {
        assert_eq!((seen[i].0, prompt(i).len()), (0, 40));
        assert_eq!(prompt(i)[..32], prompt(1)[..32]);
        assert_ne!(prompt(i)[..32], prompt(0)[..32]);
        assert!(i == 1 || prompt(i)[32..] != prompt(1)[32..]);
        let body = &seen[i].1;
        assert_eq!((&body["model"], &body["max_tokens"]), (&Value::from("tiny"), &Value::from(3)));
        assert_eq!(
            (&body["stream"], &body["ignore_eos"]),
            (&Value::from(true), &Value::from(true))
        );
        assert_eq!(body["stream_options"]["include_usage"], true);
    }
}

#[test]
fn memory_is_watched_where_that_is_asked_for() {
    let (url, _) = start_server();
    let words = ["--url", &url, "--agents", "1", "--requests-per-agent", "3"];
    let unwatched = measure(&args(&words)).unwrap();
    assert_eq!(unwatched.servers[0].summary.memory, None);
    assert!(!table::text(&unwatched).contains("memory"));
    let grown = watch::grown(&unwatched, Some(5.0));
    assert!(grown.len() == 1 && grown[0].contains("memory was not measured"), "{grown:?}");
    let (url, _) = start_server();
    let words = ["--url", &url, "--agents", "1", "--requests-per-agent", "3"];
    let args = args(&[&words[..], &["--max-memory-growth", "5%"]].concat());
    let report = measure(&args).unwrap();
    let memory = report.servers[0].summary.memory.unwrap();
    assert_eq!((memory.start_bytes, memory.end_bytes), (1_000_000, 4_000_000));
    let text = table::text(&report);
    assert!(text.contains("memory at start") && text.contains("4.0 MB"), "{text}");
    let grown = watch::grown(&report, Some(5.0));
    assert!(grown.len() == 1 && grown[0].contains("more than 5%"), "{grown:?}");
    assert!(watch::grown(&report, Some(1_000.0)).is_empty());
    let code = finish(&args, report).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}

#[test]
fn failures_are_counted_by_kind() {
    let (url, _) = start_server();
    let report = measure(&args(&["--url", &url, "--agents", "6", "--timeout", "2s"])).unwrap();
    let summary = &report.servers[0].summary;
    assert_eq!((summary.n_done, summary.n_failed, summary.n_short), (1, 5, 1), "{summary:?}");
    let mut kinds: Vec<&str> = summary.errors.iter().map(|error| error.kind.as_str()).collect();
    kinds.sort_unstable();
    let expected = ["HTTP 429", "broken stream", "error in the stream", "no token", "timeout"];
    assert_eq!(kinds, expected);
    let text = table::text(&report);
    assert!(text.contains("HTTP 429: busy") && text.contains("no memory"), "{text}");
    assert!(text.contains("1 of 6") && text.contains("ignore_eos"), "{text}");
}

#[test]
fn servers_take_turns_and_are_compared() {
    let ((a, _), (b, seen)) = (start_server(), start_server());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("load.json");
    let [ours, theirs] = [("ours", a), ("theirs", b)].map(|(name, url)| format!("{name}={url}"));
    let save = file.to_str().unwrap();
    let words = ["--server", &ours, "--server", &theirs, "--rounds", "2", "--save", save];
    let args = args(&[&words[..], &["--agents", "1", "--rate", "50", "--text"]].concat());
    let report = measure(&args).unwrap();
    let [ours, theirs] = [0, 1].map(|i| &report.servers[i]);
    assert_eq!(ours.runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((theirs.runs.len(), theirs.summary.n_done, ours.first_is), (2, 2, None));
    assert!(theirs.first_is.unwrap().tokens_per_second.unwrap() > 0.0);
    let text = table::text(&report);
    assert!(
        text.contains("ours is") && text.contains("theirs") && !text.contains("theirs is"),
        "{text}"
    );
    // Each round has a prompt of its own, in words.
    let seen = seen.lock().unwrap();
    let prompts: Vec<&str> =
        seen.iter().map(|(_, body)| body["prompt"].as_str().unwrap()).collect();
    assert_eq!((prompts.len(), prompts[1].split(' ').count()), (4, 256));
    assert_ne!(prompts[1], prompts[3]);
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let request = &saved["servers"][1]["runs"][0]["requests"][0];
    assert_eq!(request["end"]["answered"]["n_generated"], 3, "{request}");
    let shown = serde_json::to_value(report.without_requests()).unwrap();
    assert_eq!(shown["servers"][1]["runs"][0]["requests"], Value::Null);
    assert_eq!(shown["servers"][1]["summary"]["n_done"], 2);
}

#[test]
fn servers_that_are_not_as_said_are_bad_input() {
    let refused = |words: &[&str]| {
        let error = measure(&args(words)).unwrap_err();
        assert_eq!(show::exit_code(&error), 2, "{error:#}");
        format!("{error:#}")
    };
    // Nobody listens on port 1.
    let error = refused(&["--url", "http://127.0.0.1:1"]);
    assert!(error.contains("nothing answers at http://127.0.0.1:1"), "{error}");
    let (url, _) = start_server();
    let error = refused(&["--server", &format!("a={url} sleep 60")]);
    assert!(error.contains("answers at") && error.contains("already"), "{error}");
    let error = refused(&["--server", "a=http://127.0.0.1:1 sh -c 'echo no such model; exit 1'"]);
    assert!(error.contains("a: the server ended with exit status: 1: no such model"), "{error}");
    let log = error.rsplit("all it said: ").next().unwrap().trim_end_matches(')');
    std::fs::remove_file(log).unwrap();
    assert!(refused(&["--url", &url, "--rounds", "0"]).contains("--rounds 0"));
    assert!(refused(&["--url", "https://host"]).contains("https is not spoken"));
    assert!(refused(&["--url", &url, "--api-key-env", "STERNA_NO_SUCH_KEY"]).contains("set it"));
    let unnamed = Command::try_parse_from(["serve"]).err().unwrap().to_string();
    assert!(unnamed.contains("--url"), "{unnamed}");
}
