//! A server's memory during a run, and whether it grew.

use super::client::Client;
use super::report::Report;
use crate::show::bad_input;
use std::pin::pin;
use std::time::Duration;
use sterna_measure::load::Outcome;
use tokio::time::timeout;

/// Between two looks. Each makes the system walk the pages of the server.
const EVERY: Duration = Duration::from_secs(2);

/// Waits for the requests of a run, and meanwhile asks the server for its size; that is the last
/// thing done, too.
///
/// # Errors
/// When the server does not say, or the run fails.
pub async fn beside(
    work: impl Future<Output = anyhow::Result<Vec<Outcome>>>,
    client: &Client,
    name: &str,
) -> anyhow::Result<(Vec<Outcome>, Vec<u64>)> {
    let first = client.pss_bytes().await.ok_or_else(|| {
        bad_input(format!(
            "{name} does not say how much memory it takes (Sterna does on Linux, at \
             /api/v1/stats); leave --max-memory-growth out"
        ))
    })?;
    let mut sizes = vec![first];
    let mut work = pin!(work);
    loop {
        // The requests are tasks of their own, which go on while this waits for the server's size.
        let ended = timeout(EVERY, work.as_mut()).await;
        sizes.extend(client.pss_bytes().await);
        if let Ok(outcomes) = ended {
            return Ok((outcomes?, sizes));
        }
    }
}

/// A sentence for each server that grew by more than this, or whose memory is not known.
pub fn grown(report: &Report, max_percent: Option<f64>) -> Vec<String> {
    let Some(max_percent) = max_percent else { return Vec::new() };
    let sentence = |server: &super::report::Served| {
        let name = &server.name;
        if server.runs.iter().any(|run| run.summary.memory.is_none()) {
            let why = "it did not say how much it takes after the run had begun";
            return Some(format!("{name}: its memory was not measured; {why}"));
        }
        let growth = server.summary.memory?.growth_percent();
        (growth > max_percent).then(|| {
            format!(
                "{name}: its memory grew by {growth:.1}% beyond what was usual by half-time, which \
                 is more than {max_percent}%"
            )
        })
    };
    report.servers.iter().filter_map(sentence).collect()
}
