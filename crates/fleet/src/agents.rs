//! `agents.toml`: the agents that an operator knows.
//!
//! In: its text. Out: [`sterna_server::Agents`], the policies that the server holds requests to.
//! Unknown keys are errors with the nearest known name. Keys of agents are never in the file, but
//! their SHA-256: `printf %s KEY | sha256sum`.

use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use sterna_engine::Class;
use sterna_model::plan::nearest;
use sterna_server::{Agent, Agents, Quotas};
use thiserror::Error;

/// What is wrong with the file, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct AgentsError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agent: Vec<Entry>,
    #[serde(default)]
    anonymous: Anonymous,
}

/// Everybody who is none of the agents.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Anonymous {
    model: Option<String>,
    class: Option<String>,
    share: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    model: Option<String>,
    class: Option<String>,
    share: Option<f64>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
    concurrent_requests: Option<u32>,
    key_sha256: Option<String>,
}

/// What `model` says where an agent gets what everybody gets.
const DEFAULT_MODEL: &str = "default";
/// Shares from which fair sharing can be computed.
const SHARES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;
/// Names of agents are no longer, as in requests.
const MAX_NAME_LEN: usize = 256;

/// Reads the agents of a file.
///
/// # Errors
/// When it cannot be read or says something that cannot be: where, what, and the fix.
pub fn read(path: &Path) -> Result<Agents, AgentsError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"));
    let agents = text.and_then(|text| parse(&text).map_err(|why| format!("{shown}: {why}")));
    agents.map_err(AgentsError)
}

fn parse(text: &str) -> Result<Agents, String> {
    let file: File = toml::from_str(text).map_err(|error| explain(text, &error))?;
    let mut names = HashSet::new();
    let mut keys = HashSet::new();
    let mut agents = Vec::with_capacity(file.agent.len());
    for entry in file.agent {
        let agent = entry.read()?;
        if !names.insert(agent.name.clone()) {
            return Err(format!("two agents are called `{}`; rename one", agent.name));
        }
        if agent.key_sha256.is_some_and(|key| !keys.insert(key)) {
            return Err(format!("agent `{}` has another agent's key; give it its own", agent.name));
        }
        agents.push(agent);
    }
    let Anonymous { model, class, share } = file.anonymous;
    let anybody = Agent {
        model: named(model),
        class: read_class("anonymous", class.as_deref())?,
        share: read_share("anonymous", share)?,
        ..Agent::default()
    };
    Ok(Agents::new(agents, anybody))
}

impl Entry {
    fn read(self) -> Result<Agent, String> {
        let name = self.name;
        if name.is_empty()
            || name.len() > MAX_NAME_LEN
            || !name.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(format!(
                "{name:?} is no name of an agent; write 1 to {MAX_NAME_LEN} visible ASCII \
                 characters without spaces"
            ));
        }
        let quotas = Quotas {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            concurrent_requests: self.concurrent_requests,
        };
        let limits =
            [quotas.requests_per_minute, quotas.tokens_per_minute, quotas.concurrent_requests];
        if limits.contains(&Some(0)) {
            return Err(format!("agent `{name}` has a quota of 0; leave it out for no limit"));
        }
        Ok(Agent {
            model: named(self.model),
            class: read_class(&name, self.class.as_deref())?,
            share: read_share(&name, self.share)?,
            quotas,
            key_sha256: self.key_sha256.map(|text| read_hash(&name, &text)).transpose()?,
            name,
        })
    }
}

fn named(model: Option<String>) -> Option<String> {
    model.filter(|model| model != DEFAULT_MODEL)
}

fn read_class(agent: &str, name: Option<&str>) -> Result<Option<Class>, String> {
    let Some(name) = name else { return Ok(None) };
    let known = Class::ALL.map(Class::name);
    Class::by_name(name).map(Some).ok_or_else(|| {
        let fix = match nearest(name, known.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", known.join(", ")),
        };
        format!("agent `{agent}`: there is no class `{name}`; {fix}")
    })
}

fn read_share(agent: &str, share: Option<f64>) -> Result<f64, String> {
    let share = share.unwrap_or(1.0);
    if SHARES.contains(&share) {
        return Ok(share);
    }
    let (low, high) = (SHARES.start(), SHARES.end());
    Err(format!("agent `{agent}`: share is {share}; it must be from {low} to {high}"))
}

fn read_hash(agent: &str, text: &str) -> Result<[u8; 32], String> {
    let digits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok();
    let mut hash = [0; 32];
    for (i, place) in hash.iter_mut().enumerate() {
        let Some(byte) = digits.then(|| byte(i)).flatten() else {
            return Err(format!(
                "agent `{agent}`: key_sha256 is not 64 hexadecimal digits; \
                 `printf %s KEY | sha256sum` prints them"
            ));
        };
        *place = byte;
    }
    Ok(hash)
}

/// Where it is, and for an unknown key the nearest known one.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
    let at = line.map_or_else(String::new, |line| format!("line {line}: "));
    let message = error.message().trim().replace('\n', ", ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.as_slice() {
        [unknown, known @ ..] if message.starts_with("unknown field") => {
            let fix = match nearest(unknown, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            format!("{at}unknown key `{unknown}`; {fix}")
        }
        _ => format!("{at}{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn agents_are_read_with_all_they_may() {
        let text = format!(
            "[anonymous]\nclass = \"batch\"\n[[agent]]\nname = \"planner\"\nmodel = \"big\"\n\
             class = \"interactive\"\nshare = 2.5\nrequests_per_minute = 60\n\
             tokens_per_minute = 9000\nconcurrent_requests = 4\nkey_sha256 = \"{KEY}\"\n\
             [[agent]]\nname = \"plain\"\nmodel = \"default\"\n"
        );
        let agents = parse(&text).unwrap();
        let planner = agents.get("planner");
        assert_eq!((planner.model.as_deref(), planner.share), (Some("big"), 2.5));
        assert_eq!(planner.class, Some(Class::Interactive));
        assert_eq!(planner.quotas.tokens_per_minute, Some(9000));
        assert_eq!(planner.key_sha256.unwrap()[..2], [0x2b, 0xb8]);
        let plain = Agent { name: "plain".into(), ..Agent::default() };
        assert_eq!(agents.get("plain"), &plain);
        assert_eq!(agents.get("somebody").class, Some(Class::Batch));
    }

    #[test]
    fn mistakes_are_sentences() {
        let wrong =
            |entry: &str| parse(&format!("[[agent]]\nname = \"a\"\n{entry}\n")).unwrap_err();
        assert_eq!(wrong("clas = \"batch\""), "line 3: unknown key `clas`; did you mean `class`?");
        assert!(wrong("class = \"bach\"").contains("did you mean `batch`?"));
        assert!(wrong("share = 0").contains("from 0.001 to 1000"));
        assert!(wrong("concurrent_requests = 0").contains("leave it out"));
        assert!(wrong("key_sha256 = \"secret\"").contains("sha256sum"));
        assert!(wrong("[[agent]]\nname = \"a\"").contains("two agents are called `a`"));
        assert!(wrong("[[agent]]\nname = \"a b\"").contains("no name"));
        let twice =
            format!("key_sha256 = \"{KEY}\"\n[[agent]]\nname = \"b\"\nkey_sha256 = \"{KEY}\"");
        assert!(wrong(&twice).contains("another agent's key"));
    }

    #[test]
    fn the_example_has_69_agents() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/agents.toml");
        let agents = read(Path::new(path)).unwrap();
        assert_eq!(agents.all().count(), 69);
        let classes: HashSet<_> = agents.all().filter_map(|agent| agent.class).collect();
        assert_eq!(classes.len(), 3);
    }
}
