//! Faults that take minutes: `cargo xtask faults` runs them.

use super::super::serve::Server;
use super::{HANGS_AFTER, assert_well, computed, fuzz, kill_at_work, retried};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use sterna_measure::clock::{Clock, RealClock};

/// How long each of them takes, unless the environment says otherwise.
fn seconds() -> u64 {
    std::env::var("STERNA_FAULTS_SECONDS").map_or(300, |text| text.parse().unwrap())
}

fn pss_bytes(server: &Server) -> u64 {
    let stats: Value = serde_json::from_str(&server.get("/api/v1/stats").1).unwrap();
    stats["process"]["pss_bytes"].as_u64().expect("Linux says how much memory a process has")
}

#[test]
#[ignore = "takes minutes: cargo xtask faults"]
fn minutes_of_nonsense_leave_the_server_as_it_was() {
    // Beyond what the cache of keys and values may take, nothing may grow.
    const MOST_GROWTH: u64 = 32 << 20;
    let folder = tempfile::tempdir().unwrap();
    let flags = [&fuzz::PATIENCE[..], &["--kv-size", "16MB"]].concat();
    let server = Server::start(folder.path(), &flags);
    let clock = RealClock::new();
    let seed = std::env::var("STERNA_FAULTS_SEED").map_or(1, |text| text.parse().unwrap());
    let (whole, fifth) = (Duration::from_secs(seconds()), Duration::from_secs(seconds() / 5));
    let address = &server.address;
    let (n, sizes) = thread::scope(|scope| {
        let clients = (0..4).map(|i| {
            let is_over = || clock.now() > whole;
            scope.spawn(move || fuzz::run(address, seed + 1_000 * i, usize::MAX, is_over))
        });
        let clients: Vec<_> = clients.collect();
        let size_after = |_: u32| {
            thread::sleep(fifth);
            pss_bytes(&server)
        };
        let sizes: Vec<u64> = (0..5).map(size_after).collect();
        (clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>(), sizes)
    });
    assert_well(&server, folder.path());
    println!("{n} requests of seed {seed}; PSS after each fifth of the time: {sizes:?} bytes");
    assert!(sizes[4] < sizes[0] + MOST_GROWTH, "{sizes:?}");
}

#[test]
#[ignore = "takes minutes: cargo xtask faults"]
fn ten_thousand_idle_connections_are_in_nobodys_way() {
    const N: usize = 10_000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    if limit.maximum.is_some_and(|most| most < N as u64 + 200) {
        println!("skipped: this system allows a process {:?} open files only", limit.maximum);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--client-timeout", "10m"]);
    let before = pss_bytes(&server);
    let connect = |i: usize| {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        // A half has asked once; a quarter stopped within a head.
        let text =
            ["GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", "", "GET / HTTP/1.1\r\nHo", ""];
        socket.write_all(text[i % 4].as_bytes()).unwrap();
        socket
    };
    let idle: Vec<TcpStream> = (0..N).map(connect).collect();
    for _ in 0..20 {
        assert_well(&server, folder.path());
    }
    let held = pss_bytes(&server).saturating_sub(before) / N as u64;
    println!("{N} idle connections, about {held} bytes each of the server's memory");
    // All of them are there: one that asks now is answered.
    for mut socket in idle.into_iter().skip(1).step_by(400) {
        socket.set_read_timeout(Some(HANGS_AFTER)).unwrap();
        socket
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_well(&server, folder.path());
}

#[test]
#[ignore = "takes minutes: cargo xtask faults"]
fn a_server_killed_again_and_again_comes_back_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let disk = ["--kv-disk", kept.to_str().unwrap(), "--kv-disk-size", "1GB"];
    let mut server = Server::start(folder.path(), &disk);
    let address = server.address.clone();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let bodies: Vec<Value> = (0..16).map(|i| computed(&format!("Chapter {i}."), 100)).collect();
    let expected: Vec<String> = bodies.iter().map(|body| retried(&address, body)).collect();
    let (is_over, n_done, n_kills) = (AtomicBool::new(false), AtomicUsize::new(0), 20);
    let mut n_read = 0;
    thread::scope(|scope| {
        for (body, expected) in bodies.iter().zip(&expected) {
            let (address, is_over, n_done) = (&address, &is_over, &n_done);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(&retried(address, body), expected);
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 0..n_kills {
            // Each falls into another moment of the load.
            thread::sleep(Duration::from_millis(300 + 137 * kill));
            n_read += server.stats()["disk_tokens"].as_u64().unwrap();
            kill_at_work(&mut server, || false);
            server = Server::start_at(&port, folder.path(), &disk);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let n_done = n_done.into_inner();
    println!("{n_kills} kills, {n_done} answers as without them, {n_read} tokens read from disk");
    assert!(n_read > 0, "no life found what the one before it had read");
    assert_well(&server, folder.path());
}
