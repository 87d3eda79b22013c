//! Many models and agents as an operator meets them: the real binary over a folder of models, with
//! memory for one of them.

use super::serve::{Server, greedy};
use serde_json::{Value, json};
use std::path::Path;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");
const LARGE: &str = "austen-4m";
const SMALL: &str = "austen-4m-ternary";

fn json_of(server: &Server, path: &str) -> Value {
    let (status, text) = server.get(path);
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Bytes and status of each model.
fn models(server: &Server) -> Vec<(String, u64, String)> {
    let list = json_of(server, "/models");
    let model = |m: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&m["id"]), m["memory_bytes"].as_u64().unwrap(), text(&m["status"]["value"]))
    };
    list["data"].as_array().unwrap().iter().map(model).collect()
}

fn asked(server: &Server, model: &str) -> (u16, Value) {
    let mut body = greedy("She had been", 12);
    body["model"] = json!(model);
    server.post("/v1/completions", &body)
}

fn said(server: &Server, model: &str) -> String {
    let (status, answer) = asked(server, model);
    assert_eq!((status, &answer["model"]), (200, &json!(model)), "{answer}");
    answer["choices"][0]["text"].as_str().unwrap().to_owned()
}

/// What `run` says, which serves from nothing else.
fn run(folder: &Path, model: &str) -> String {
    let path = format!("{MODELS}/{model}.gguf");
    let args = ["run", &path, "She had been", "-n", "12", "--temp", "0", "--ignore-eos", "-q"];
    let text = super::ok(folder, &args);
    text.strip_prefix("She had been").unwrap().trim_end_matches('\n').to_owned()
}

// proves A21: admission and eviction by bytes, with pins and drain
#[test]
fn models_of_a_folder_take_turns_in_memory_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--models-dir", MODELS, "--kv-size", "1MB", "--batch-size", "64"];
    // What they take is known before either is loaded.
    let sizes = models(&Server::of(folder.path(), &small));
    let known: Vec<(&str, &str)> =
        sizes.iter().map(|(name, _, status)| (name.as_str(), status.as_str())).collect();
    assert_eq!(known, [(LARGE, "unloaded"), (SMALL, "unloaded")]);
    let most = sizes.iter().map(|(_, bytes, _)| *bytes).max().unwrap();
    let limit = (most + 1000).to_string();
    let server = Server::of(folder.path(), &[&small[..], &["--max-memory", &limit]].concat());
    let expected = [LARGE, SMALL].map(|model| (model, run(folder.path(), model)));
    assert_ne!(expected[0].1, expected[1].1, "the two models are told apart by what they say");
    for _ in 0..2 {
        for (model, text) in &expected {
            assert_eq!(said(&server, model), *text);
            let stats = json_of(&server, "/v1/cache/stats");
            let used = stats["memory_used_mb"].as_f64().unwrap();
            assert!(used <= stats["memory_limit_mb"].as_f64().unwrap(), "{stats}");
            assert_eq!(
                (&stats["models_cached"], &stats["top_models"][0]["name"]),
                (&json!(1), &json!(model))
            );
            // What was computed from the header is what the program takes.
            let bytes = sizes.iter().find(|(name, ..)| name == model).unwrap().1;
            let memory = json_of(&server, "/api/v1/stats")["models"][0]["memory"].take();
            let taken = memory.as_object().unwrap().values().map(|n| n.as_u64().unwrap());
            assert_eq!(taken.sum::<u64>(), bytes, "{memory}");
        }
    }
    let stats = json_of(&server, "/api/v1/cache/stats");
    assert_eq!((&stats["evictions"]["room"], &stats["total_misses"]), (&json!(3), &json!(4)));
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("sterna_model_evictions_total{reason=\"room\"} 3\n"), "{metrics}");
    // What is pinned does not go, and who wants the other is told why.
    assert_eq!(server.post(&format!("/v1/models/{SMALL}/pin"), &json!({})).0, 200);
    let (status, error) = asked(&server, LARGE);
    assert_eq!((status, &error["error"]["code"]), (503, &json!("model_too_large")), "{error}");
    assert_eq!(server.post("/models/unload", &json!({ "model": SMALL })).0, 409);
    assert_eq!(server.ask("DELETE", &format!("/v1/models/{SMALL}/pin"), "", "").0, 200);
    assert_eq!(server.post("/models/load", &json!({ "model": LARGE })).0, 200);
    assert_eq!(said(&server, LARGE), expected[0].1);
}

#[test]
fn models_that_can_never_be_loaded_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--models-dir", MODELS, "--kv-size", "1MB", "--max-memory", "1MB"];
    let server = Server::of(folder.path(), &flags);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for model in [LARGE, SMALL] {
        assert!(log.contains(&format!("model `{model}` takes ")), "{log}");
        assert_eq!(asked(&server, model).1["error"]["code"], "model_too_large");
    }
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(format!("{MODELS}/{SMALL}.gguf"), folder.path().join("out.gguf")).unwrap();
    let link = inside.join("linked.gguf");
    std::fs::hard_link(folder.path().join("out.gguf"), link).unwrap();
    let flags = ["--models-dir", inside.to_str().unwrap(), "--kv-size", "1MB"];
    let server = Server::of(folder.path(), &flags);
    assert_eq!(asked(&server, "linked").0, 200);
    let whole = folder.path().join("out.gguf").to_str().unwrap().to_owned();
    let names = ["../out", "../out.gguf", "..", "../..", "in/../../out", "./linked", &whole];
    for name in names {
        let (status, error) = asked(&server, name);
        assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")), "{name}");
        for path in ["/models/load", "/models/unload", "/api/show"] {
            assert_eq!(server.post(path, &json!({ "model": name })).0, 404, "{path} {name}");
        }
        let encoded = name.replace('/', "%2F");
        assert_eq!(server.get(&format!("/v1/models/{encoded}")).0, 404, "{name}");
    }
    assert_eq!(json_of(&server, "/v1/cache/stats")["models_cached"], 1);
}

// proves A21 (in part: all that a model takes is in the budget, a draft model and kept answers too)
#[test]
fn a_draft_model_and_kept_answers_are_in_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let [large, small] = [LARGE, SMALL].map(|model| format!("{MODELS}/{model}.gguf"));
    let alone = [large.as_str(), "--kv-size", "1MB", "--response-cache", "0"];
    let with = [large.as_str(), "--kv-size", "1MB", "--response-cache", "3MB"];
    let with = [&with[..], &["--draft-model", &small]].concat();
    let [alone, both] = [&alone[..], &with].map(|flags| {
        let server = Server::of(folder.path(), flags);
        let memory = json_of(&server, "/api/v1/stats")["models"][0]["memory"].take();
        let sum = memory.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
        // What the header says is what is taken.
        assert_eq!(models(&server)[0].1, sum, "{memory}");
        (memory, sum)
    });
    assert!(alone.0["draft"].is_null() && alone.0["response_cache"].is_null(), "{}", alone.0);
    assert_eq!(both.0["response_cache"], 3_000_000, "{}", both.0);
    // Its weights alone are more than this.
    let draft = both.0["draft"].as_u64().unwrap();
    assert!(draft > 1_000_000, "{}", both.0);
    assert_eq!(both.1, alone.1 + draft + 3_000_000);
    let limit = (both.1 - 1).to_string();
    let flags = ["serve", "--port", "0", "--threads", "2", "--ctx-size", "256"];
    let tight = [&flags[..], &with, &["--max-memory", &limit]].concat();
    assert!(super::refused(folder.path(), &tight).contains("--response-cache"));
}

// proves B24 (in part: what was read survives that its model leaves memory and comes back; no time
// is compared)
#[test]
fn keys_and_values_survive_that_their_model_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let disk = ["--kv-disk", kept.to_str().unwrap(), "--kv-disk-size", "1GB"];
    let flags = ["--models-dir", MODELS, "--kv-size", "1MB"];
    let server = Server::of(folder.path(), &[&flags[..], &disk].concat());
    let prompt = "Her mother had talked of nothing but the ball, and of the officers who would be \
                  there, since the invitation came. "
        .repeat(5);
    let mut body = greedy(&prompt, 8);
    body["model"] = json!(SMALL);
    let ask = || {
        let (status, answer) = server.post("/v1/completions", &body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let cached = |answer: &Value| {
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let unload = || {
        assert_eq!(server.post("/models/unload", &json!({ "model": SMALL })).0, 200);
        let is_there =
            |(name, _, status): &(String, u64, String)| name == SMALL && status != "unloaded";
        while models(&server).iter().any(is_there) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    let cold = ask();
    assert_eq!(cached(&cold), 0);
    // A machine that is busy with other tests may read its disk too late, and computes then.
    let warm = (0..10).find_map(|_| {
        unload();
        let warm = ask();
        assert_eq!(warm["choices"], cold["choices"]);
        (cached(&warm) >= 96).then_some(warm)
    });
    warm.expect("it is found");
    let (_, metrics) = server.get("/metrics");
    let read = metrics.lines().find(|line| {
        line.starts_with("sterna_prefix_tokens_reused_total") && line.contains("tier=\"disk\"")
    });
    let n_read: f64 = read.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(n_read >= 96.0, "{metrics}");
}

#[test]
fn ollamas_clients_load_list_and_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--models-dir", MODELS, "--kv-size", "1MB"];
    let server = Server::of(folder.path(), &flags);
    let names = |path: &str| -> Vec<String> {
        let models = json_of(&server, path)["models"].take();
        let name = |model: &Value| model["name"].as_str().unwrap().to_owned();
        models.as_array().unwrap().iter().map(name).collect()
    };
    let [large, small] = [LARGE, SMALL].map(|name| format!("{name}:latest"));
    assert_eq!(names("/api/tags"), [large, small.clone()]);
    assert!(names("/api/ps").is_empty());
    let ask = |keep_alive: Value| {
        let body = json!({ "model": small, "keep_alive": keep_alive });
        let (status, answer) = server.post("/api/generate", &body);
        assert_eq!(status, 200, "{answer}");
        answer["done_reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(json!("10m")), "load");
    assert_eq!(names("/api/ps"), std::slice::from_ref(&small));
    let expires = json_of(&server, "/api/ps")["models"][0]["expires_at"].take();
    assert!(expires.as_str().unwrap().starts_with("20"), "{expires}");
    assert_eq!(ask(json!(0)), "unload");
    while !names("/api/ps").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn the_example_of_69_agents_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let agents = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/agents.toml");
    let server = Server::start(folder.path(), &["--agents", agents]);
    let stats = json_of(&server, "/api/v1/stats");
    assert_eq!(stats["agents"].as_array().unwrap().len(), 69);
    // Each of them is answered, in its class; and so is who is none of them.
    let ask = |agent: &str| {
        let mut body = greedy(&format!("The {agent} said"), 2);
        body["agent_id"] = json!(agent);
        server.ask("POST", "/v1/completions", "", &body.to_string())
    };
    for agent in stats["agents"].as_array().unwrap() {
        let (status, head, answer) = ask(agent["name"].as_str().unwrap());
        let class = format!("x-priority-class: {}", agent["class"].as_str().unwrap());
        assert!(status == 200 && head.contains(&class), "{agent}: {status} {head} {answer}");
    }
    assert_eq!(ask("nobody-in-particular").0, 200);
    assert_eq!(server.post("/v1/completions", &greedy("She said", 2)).0, 200);
    let stats = json_of(&server, "/api/v1/stats");
    let n_asked = stats["models"][0]["stats"]["agents"].as_array().unwrap().len();
    assert_eq!(n_asked, 71, "{stats}");
}

#[test]
fn a_model_that_nobody_uses_goes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--models-dir", MODELS, "--kv-size", "1MB", "--keep-alive", "0"];
    let mut server = Server::of(folder.path(), &flags);
    let text = said(&server, SMALL);
    let is_away = |server: &Server| models(server).iter().all(|(.., status)| status == "unloaded");
    while !is_away(&server) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let stats = json_of(&server, "/v1/cache/stats");
    assert_eq!((&stats["evictions"]["idle"], &stats["memory_used_mb"]), (&json!(1), &json!(0.0)));
    let preload = json!({
        "is_on": false,
        "gain": null,
        "useful_bytes": 0,
        "wasted_bytes": 0,
        "precision": null,
    });
    assert_eq!(stats["preload"], preload, "nothing is loaded on a hope");
    assert_eq!(said(&server, SMALL), text);
    assert!(server.terminate().success(), "SIGTERM is a regular end");
}

#[test]
fn a_keep_alive_that_is_for_no_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{MODELS}/{SMALL}.gguf");
    let said = |flags: &[&str]| {
        let mut server = Server::of(folder.path(), &[flags, &["--kv-size", "1MB"]].concat());
        assert!(server.terminate().success());
        std::fs::read_to_string(folder.path().join("log")).unwrap()
    };
    assert!(!said(&[&model]).contains("--keep-alive"));
    assert!(!said(&["--models-dir", MODELS, "--keep-alive", "5s"]).contains("--keep-alive"));
    let log = said(&[&model, "--keep-alive", "5s"]);
    assert!(log.contains("--keep-alive has no effect"), "{log}");
}

#[test]
fn agents_and_settings_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // The hash is of `secret-key`.
    let agents = write(
        "agents.toml",
        "[[agent]]\nname = \"few\"\nclass = \"batch\"\nrequests_per_minute = 1\n\
         key_sha256 = \"85dbe15d75ef9308c7ae0f33c7a324cc6f4bf519a2ed2f3027bd33c140a4f9aa\"\n\
         [[agent]]\nname = \"small\"\nmodel = \"austen-4m-ternary\"\nshare = 2\n",
    );
    let settings = format!(
        "models-dir = {MODELS:?}\nagents = {agents:?}\nkv_size = \"1MB\"\nmax_batch_size = 4\n\
         max_wait_time_ms = 30\ndynamic_batching = true\nmax_memory_mb = 512\nstrict = true\n"
    );
    let config = write("serve.toml", &settings);
    let server = Server::of(folder.path(), &["--config", &config]);
    let stats = json_of(&server, "/v1/cache/stats");
    assert_eq!(stats["memory_limit_mb"], json!(512.0));
    let body = |agent: &str| {
        let mut body = greedy("A", 2);
        body["agent_id"] = json!(agent);
        body
    };
    let (status, answer) = server.post("/v1/completions", &body("small"));
    assert_eq!((status, &answer["model"]), (200, &json!(SMALL)), "{answer}");
    let key = "Authorization: Bearer secret-key\r\n";
    let mut asked = body("few");
    asked["model"] = json!(SMALL);
    let ask = |head: &str| server.ask("POST", "/v1/completions", head, &asked.to_string());
    assert_eq!(ask("").0, 401);
    let (status, head, _) = ask(key);
    assert!(status == 200 && head.contains("x-priority-class: batch"), "{head}");
    let (status, head, error) = ask(key);
    assert!(status == 429 && head.contains("retry-after: "), "{head}");
    assert!(error.contains("1 requests per minute"), "{error}");
    let stats = json_of(&server, "/api/v1/stats");
    let shown = stats["models"][0]["stats"]["agents"].as_array().unwrap();
    let small = shown.iter().find(|agent| agent["name"] == "small").unwrap();
    assert_eq!((&small["class"], &small["share"]), (&json!("default"), &json!(2.0)));
}

#[test]
fn mistakes_about_models_and_agents_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    assert!(super::refused(path, &["serve", "--port", "0"]).contains("--models-dir"));
    assert!(
        super::refused(path, &["serve", "--models-dir", ".", "--port", "0"])
            .contains("holds no model")
    );
    let late = ["serve", "--models-dir", MODELS, "--keep-alive", "soon", "--port", "0"];
    assert!(super::refused(path, &late).contains("5m"));
    write("agents.toml", "[[agent]]\nname = \"a\"\nmodle = \"x\"\n");
    let agents = ["serve", "--models-dir", MODELS, "--agents", "agents.toml", "--port", "0"];
    assert!(super::refused(path, &agents).contains("did you mean `model`?"));
    write("agents.toml", "[[agent]]\nname = \"a\"\nmodel = \"austen-4n\"\n");
    assert!(super::refused(path, &agents).contains("did you mean `austen-4m`?"));
    let model = format!("{MODELS}/{SMALL}.gguf");
    let tight = ["serve", &model, "--max-memory", "1kB", "--port", "0"];
    assert!(super::refused(path, &tight).contains("raise it"));
    write("serve.json", "{ \"dynamic_batching\": false }");
    assert!(
        super::refused(path, &["serve", "--config", "serve.json"]).contains("dynamic_batching")
    );
}

// proves B28: with the real binary on real files, loading ahead turns itself on where it pays
#[test]
#[ignore = "takes minutes: cargo test --test cli loads_ahead -- --ignored"]
fn loads_ahead_where_that_pays() {
    const N_MODELS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    for i in 0..N_MODELS {
        let link = models.join(format!("m{i}.gguf"));
        std::os::unix::fs::symlink(format!("{MODELS}/{SMALL}.gguf"), link).unwrap();
    }
    let flags = ["--models-dir", models.to_str().unwrap(), "--kv-size", "1MB"];
    let server = Server::of(folder.path(), &[&flags[..], &["--keep-alive", "1s"]].concat());
    // An agent that goes round its models; each has left again when its turn comes.
    let round = |n: usize| {
        for i in 0..n {
            let mut body = greedy(&format!("Request {i}"), 1);
            body["model"] = json!(format!("m{}", i % N_MODELS));
            body["agent_id"] = json!("rounds");
            assert_eq!(server.post("/v1/completions", &body).0, 200);
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        json_of(&server, "/v1/cache/stats")
    };
    let before = round(60);
    assert_eq!((&before["preload"]["is_on"], &before["total_hits"]), (&json!(false), &json!(0)));
    let after = round(60);
    println!("{after}");
    assert_eq!(after["preload"]["is_on"], true, "{after}");
    assert!(after["preload"]["gain"][0].as_f64().unwrap() > 0.0, "{after}");
    assert!(after["total_hits"].as_u64().unwrap() >= 40, "{after}");
    let size = after["top_models"][0]["size_mb"].as_f64().unwrap() * 1024.0 * 1024.0;
    assert!(after["preload"]["useful_bytes"].as_f64().unwrap() >= 40.0 * size, "{after}");
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("sterna_preload_enabled 1\n"), "{metrics}");
}
