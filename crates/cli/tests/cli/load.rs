//! `sterna bench serve` on a server that it starts itself.

use super::serve::MODEL;
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use sterna_measure::clock::{Clock, RealClock};

/// The command that measures a server of its own, with so many requests of each agent.
fn bench(folder: &Path, port: u16, requests: &str) -> Command {
    let sterna = env!("CARGO_BIN_EXE_sterna");
    let server = format!(
        "ours=http://127.0.0.1:{port} {sterna} serve {MODEL} --port {port} --threads 2 -c 256"
    );
    let mut command = Command::new(sterna);
    command.args([
        "bench",
        "serve",
        "--server",
        &server,
        "--agents",
        "2",
        "--requests-per-agent",
        requests,
    ]);
    command.args([
        "--prefix-tokens",
        "32",
        "--own-tokens",
        "8",
        "--gen-tokens",
        "8",
        "--vocab",
        "1000",
        "--json",
    ]);
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("TMPDIR", folder).current_dir(folder);
    command.stderr(Stdio::null());
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_request_of_a_load_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), free_port(), "3").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let summary = &report["servers"][0]["summary"];
    assert_eq!((&summary["n_requests"], &summary["n_failed"]), (&6.into(), &0.into()), "{summary}");
    assert_eq!(summary["generated_tokens"], 6 * 8, "{summary}");
}

// Whoever ends the load ends its servers too.
#[test]
#[cfg(unix)]
fn a_load_that_is_ended_leaves_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut load = bench(folder.path(), port, "100000").stdout(Stdio::null()).spawn().unwrap();
    let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let clock = RealClock::new();
    while !answers() {
        assert!(clock.now() < Duration::from_secs(60), "the server never came");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = load.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(!load.wait().unwrap().success());
    assert!(!answers(), "the server outlived the load");
}
