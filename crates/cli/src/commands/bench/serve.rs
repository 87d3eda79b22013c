//! `sterna bench serve`: load on servers that speak OpenAI's API, ours and others', by one tool.
//!
//! In: a workload and servers, running or to be started. Out: a table or JSON of what the agents
//! got. Servers that are started here are measured one at a time, forth in one round and back in
//! the next, so that neither shares the machine with another and a drift of it cancels.
//!
//! [`keys`] and [`workload`] say what is sent, [`server`] and [`process`] to whom; [`drive`] sends
//! it through [`client`], while [`watch`] looks at the server's memory, and [`answer`] reads the
//! streams ([`sse`]) that come back; [`report`] and [`table`] show it. All arithmetic is in
//! `sterna_measure::load`.

mod answer;
mod client;
mod drive;
pub(in crate::commands) mod keys;
mod process;
mod report;
mod server;
mod sse;
pub(in crate::commands) mod table;
mod watch;
pub(in crate::commands) mod workload;

use crate::interrupt::{self, Signals};
use crate::show::{self, bad_input};
use anyhow::Context;
use client::{Client, Key};
use drive::Driver;
use indicatif::{ProgressBar, ProgressStyle};
use keys::Keys;
use process::Process;
use report::{Report, Run};
use server::Server;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use sterna_formats::AtomicFile;
use sterna_measure::load::{Arrivals, Memory, Outcome, Summary};
use workload::Workload;

/// Measure servers under the load of many agents: tokens/s in all, time to first token, time
/// between tokens, and how many requests were answered in time.
///
/// Requests are streamed completions of random tokens: the same for every server, with a prefix
/// that all agents share. A server given with its command is started for each run and ended after
/// it, so that rounds of several servers measure one at a time; servers that are running already
/// share the machine while others are measured, so stop those that are not to count. Exit code 1
/// says that a request was not answered.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna bench serve --url http://127.0.0.1:8000 --agents 16
  sterna bench serve --url http://127.0.0.1:8000 --workload agents-69 --slo ttft=2s,itl=150ms
  sterna bench serve --url http://127.0.0.1:8000 --trace azure:code.csv --token-scale 0.25
  sterna bench serve --workload agents-69 --rounds 2 --save load.json
    --server \"sterna=http://127.0.0.1:8000 sterna serve model.gguf --port 8000\"
    --server \"llama-server=http://127.0.0.1:8090 llama-server -m model.gguf --port 8090 -np 69\"")]
pub struct Args {
    /// A server that is running; the table names it sterna.
    #[arg(long, required_unless_present = "servers")]
    url: Option<String>,
    /// A server, and the command that starts it if it is not running; may be given several times.
    /// Ratios are of the first to each of the others.
    #[arg(long = "server", value_name = "NAME=URL [COMMAND]")]
    servers: Vec<Server>,
    /// The model's name in requests [default: the first that the server lists].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The environment variable with the servers' API key.
    #[arg(long, value_name = "VAR")]
    api_key_env: Option<String>,
    /// Runs of each server, in turn: a b, then b a.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Also watch the memory of servers, which must be Sterna's, and exit with code 1 if one ever
    /// takes more in the second half of a run than it usually did before, by more than this, or
    /// does not say what it takes. Usual is the median from a tenth of the run to its half: until
    /// its cache of keys and values is full a server grows.
    #[arg(long, value_name = "PERCENT")]
    max_memory_growth: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Also write JSON with every request; after each run, so that little is lost if it is stopped.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// What is sent: a TOML file, or one of shared-prefix, agents-69, small-69, azure-code. Flags
    /// win over it.
    #[arg(long, value_name = "FILE|NAME", help_heading = "Workload")]
    workload: Option<String>,
    #[command(flatten, next_help_heading = "Workload")]
    keys: Keys,
}

/// Runs the command.
///
/// # Errors
/// When an argument is wrong, a server cannot be started, or the user stops it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    finish(args, measure(args)?)
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    if args.rounds == 0 {
        return Err(bad_input("--rounds 0 measures nothing; give at least 1"));
    }
    let running = args.url.as_deref().map(Server::running).transpose().map_err(bad_input)?;
    let servers: Vec<Server> = running.into_iter().chain(args.servers.iter().cloned()).collect();
    server::check_names(&servers).map_err(bad_input)?;
    let keys = args.keys.clone().over(workload::read(args.workload.as_deref())?);
    let load = Load {
        is_watched: args.max_growth()?.is_some(),
        workload: Workload::new(&keys)?,
        model: args.model.clone(),
        key: args.api_key_env.as_deref().map(Key::from_env).transpose()?,
    };
    let mut report = Report::new(keys, &load.workload, args.rounds, &servers);
    // One thread: the fewer CPUs this takes from a server on the same machine, the better.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A stop ends this with an error, which ends the servers.
    let signals = runtime.block_on(async { Signals::listen() })?;
    runtime.spawn(interrupt::heed(signals));
    for round in 0..args.rounds {
        for index in order(servers.len(), round) {
            let run = runtime.block_on(load.visit(&servers[index], round))?;
            let (server, line) = (&mut report.servers[index], table::line(&run.summary));
            eprintln!("round {} of {}: {} {line}", round + 1, args.rounds, server.name);
            server.runs.push(run);
            report.conclude(load.workload.slo);
            save(args, &report)?;
        }
    }
    Ok(report)
}

/// Forth in even rounds, back in odd ones.
fn order(n_servers: usize, round: usize) -> Vec<usize> {
    let forth = 0..n_servers;
    if round.is_multiple_of(2) { forth.collect() } else { forth.rev().collect() }
}

fn save(args: &Args, report: &Report) -> anyhow::Result<()> {
    let Some(path) = &args.save else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)? + "\n";
    let written = AtomicFile::write_whole(path, text.as_bytes());
    written.with_context(|| format!("writing {}", path.display()))
}

fn finish(args: &Args, report: Report) -> anyhow::Result<ExitCode> {
    let grown = watch::grown(&report, args.max_growth()?);
    let is_answered = report.servers.iter().all(|server| server.summary.n_failed == 0);
    match args.json {
        true => show::json(&report.without_requests())?,
        false => print!("{}", table::text(&report)),
    }
    grown.iter().for_each(|sentence| eprintln!("{sentence}"));
    if let Some(path) = &args.save {
        eprintln!("every request: {}", path.display());
    }
    Ok(if is_answered && grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn max_growth(&self) -> anyhow::Result<Option<f64>> {
        let parse = |text: &str| sterna_optimize::budget::parse_percent(text);
        Ok(self.max_memory_growth.as_deref().map(parse).transpose()?)
    }
}

/// What every server gets.
struct Load {
    /// Whether to look at its memory.
    is_watched: bool,
    workload: Workload,
    model: Option<String>,
    key: Option<Key>,
}

impl Load {
    /// One run of one server, which is started for it if it has a command.
    async fn visit(&self, server: &Server, round: usize) -> anyhow::Result<Run> {
        let name = &server.name;
        let client = Client::new(&server.url, self.key.as_ref(), self.workload.timeout)?;
        let mut process = match server.command.is_empty() {
            true => None,
            false => Some(Process::start(server, &client).await?),
        };
        process::wait_ready(server, &client, process.as_mut()).await?;
        let measured = self.measure(name, client, round).await;
        let (requests, memory_bytes) = match process.as_mut().and_then(Process::death) {
            None => measured?,
            Some(death) => {
                let measured = measured.with_context(|| format!("{name}: {death}"))?;
                eprintln!("warning: {name}: {death}");
                measured
            }
        };
        if let Some(process) = process {
            process.stop();
        }
        let mut summary = Summary::of(&[&requests], self.workload.slo);
        summary.memory = Memory::of(&memory_bytes);
        Ok(Run { round, seed: self.workload.seed_of(round), summary, memory_bytes, requests })
    }

    /// Sends all requests of a round to a server that is ready; gives what came of them, and the
    /// server's memory meanwhile.
    async fn measure(
        &self,
        name: &str,
        client: Client,
        round: usize,
    ) -> anyhow::Result<(Vec<Outcome>, Vec<u64>)> {
        let seed = self.workload.seed_of(round);
        let arrivals = Arrivals::of(&self.workload.traffic, seed)?;
        let model = match &self.model {
            Some(model) => model.clone(),
            None => client.first_model().await,
        };
        let driver = Arc::new(Driver { client, model, prompts: self.workload.prompts(seed) });
        let warm_up = Arrivals { lanes: vec![arrivals.warm_up(self.workload.n_warm_up)] };
        let warmed = drive::run(&driver, warm_up, &ProgressBar::hidden()).await?;
        if let Some(failure) = warmed.iter().find_map(Outcome::failure) {
            anyhow::bail!("{name}: the request that warms up failed: {failure}");
        }
        let bar = ProgressBar::new(arrivals.n_requests() as u64);
        let shape = "{msg} {bar:24} {pos}/{len} requests {elapsed}, {eta} left";
        bar.set_style(ProgressStyle::with_template(shape).expect("a constant template"));
        bar.set_message(name.to_owned());
        let work = drive::run(&driver, arrivals, &bar);
        let measured = match self.is_watched {
            false => work.await.map(|outcomes| (outcomes, Vec::new())),
            true => watch::beside(work, &driver.client, name).await,
        };
        bar.finish_and_clear();
        measured
    }
}

#[cfg(test)]
mod tests;
