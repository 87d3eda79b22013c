//! What each agent asked for and got, for people to see.

use std::collections::BTreeMap;

/// Agents that are counted by name: names come from clients, so there must be an end.
const MOST: usize = 256;

/// Under which all further agents are counted.
const OTHERS: &str = "(others)";

/// What an agent asked for and got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStats {
    /// Its name; empty for clients that give none.
    pub name: String,
    /// Requests of it that have not ended.
    pub open: usize,
    /// Those of them that are in work; the others wait.
    pub running: usize,
    /// All its requests.
    pub requests: u64,
    /// Tokens of its prompts.
    pub prompt_tokens: u64,
    /// Tokens generated for it.
    pub new_tokens: u64,
}

/// The agents by name.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    by_name: BTreeMap<String, AgentStats>,
}

impl Agents {
    /// An agent's counters.
    pub fn of(&mut self, name: &str) -> &mut AgentStats {
        let is_known = self.by_name.contains_key(name) || self.by_name.len() < MOST;
        let name = if is_known { name } else { OTHERS };
        let new = || AgentStats { name: name.to_owned(), ..AgentStats::default() };
        self.by_name.entry(name.to_owned()).or_insert_with(new)
    }

    /// All of them, by name; `running` has the agent of each request in work.
    pub fn all<'a>(&self, running: impl Iterator<Item = &'a str>) -> Vec<AgentStats> {
        let mut all: Vec<AgentStats> = self.by_name.values().cloned().collect();
        for agent in running {
            let name = if self.by_name.contains_key(agent) { agent } else { OTHERS };
            // `by_name` is ordered, and so are they.
            if let Ok(at) = all.binary_search_by(|stats| stats.name.as_str().cmp(name)) {
                all[at].running += 1;
            }
        }
        all
    }
}

/// The agents of an engine, and with their counts what `before` counted for them.
pub(crate) fn merged(now: &[AgentStats], before: &[AgentStats]) -> Vec<AgentStats> {
    let mut agents = Agents::default();
    // Who was counted by name before stays so.
    for agent in before {
        let sum = agents.of(&agent.name);
        sum.requests += agent.requests;
        sum.prompt_tokens += agent.prompt_tokens;
        sum.new_tokens += agent.new_tokens;
    }
    for agent in now {
        let sum = agents.of(&agent.name);
        sum.open += agent.open;
        sum.running += agent.running;
        sum.requests += agent.requests;
        sum.prompt_tokens += agent.prompt_tokens;
        sum.new_tokens += agent.new_tokens;
    }
    agents.by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_names() {
        let mut agents = Agents::default();
        for i in 0..1_000 {
            agents.of(&format!("agent-{i}")).requests += 1;
        }
        agents.of("agent-7").requests += 1;
        let all = agents.all(["agent-7", "agent-999", "agent-7"].into_iter());
        let running = |name: &str| all.iter().find(|agent| agent.name == name).unwrap().running;
        assert_eq!((running("agent-7"), running(OTHERS), running("agent-1")), (2, 1, 0));
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(all.iter().map(|agent| agent.requests).sum::<u64>(), 1_001);
        assert_eq!(agents.of("agent-7").requests, 2);
    }
}
