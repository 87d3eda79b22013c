//! The agents that an operator knows: what each may, and who may say to be one.
//!
//! In: a list of agents. Out: a policy for whoever asks, and the meters of those with quotas. A
//! client that names no agent, or an unknown one, gets the policy of anybody.

use crate::errors::ApiError;
use crate::keys;
use crate::quotas::{Meter, Quota, Quotas, locked};
use axum::http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use sterna_engine::Class;
use subtle::ConstantTimeEq;

/// An agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// The model it gets when a request of it names none, or `default`.
    pub model: Option<String>,
    /// The class of its requests, and the most urgent that they may ask for.
    pub class: Option<Class>,
    /// How much of the machine it gets beside others: twice as much with 2 as with 1.
    pub share: f64,
    /// What it may use.
    pub quotas: Quotas,
    /// The SHA-256 of its key. Only who has the key is this agent.
    pub key_sha256: Option<[u8; 32]>,
}

impl Default for Agent {
    fn default() -> Self {
        let (name, model, class, quotas, key_sha256) = Default::default();
        Self { name, model, class, share: 1.0, quotas, key_sha256 }
    }
}

/// The header by which a client says which agent it is. Behind the guard it can be trusted to name
/// no agent whose key is missing.
pub const AGENT_HEADER: &str = "x-agent-id";

/// What counts an agent's use, for all who ask in its name.
type SharedMeter = Arc<Mutex<Meter>>;

/// Agents by name.
#[derive(Debug, Default)]
pub struct Agents {
    known: BTreeMap<String, (Agent, Option<SharedMeter>)>,
    anybody: Agent,
}

impl Agents {
    /// These agents, and the policy of everybody else.
    pub fn new(agents: Vec<Agent>, anybody: Agent) -> Self {
        let meter = |agent: &Agent| {
            let has_quotas = agent.quotas != Quotas::default();
            has_quotas.then(|| Arc::new(Mutex::new(Meter::new(&agent.name, agent.quotas))))
        };
        let known = agents.into_iter().map(|agent| {
            let meter = meter(&agent);
            (agent.name.clone(), (agent, meter))
        });
        Self { known: known.collect(), anybody }
    }

    /// The agent whose key a request has.
    pub(crate) fn of_key(&self, headers: &HeaderMap) -> Option<&str> {
        let given = keys::hash(keys::given(headers)?);
        let mut found = None;
        // All of them are compared, whichever fits.
        for agent in self.all() {
            let known = agent.key_sha256.unwrap_or_default();
            if bool::from(known[..].ct_eq(&given[..])) && agent.key_sha256.is_some() {
                found = Some(agent.name.as_str());
            }
        }
        found
    }

    /// Requests that were refused, by quota, of all agents together.
    pub fn refused(&self) -> [(&'static str, u64); 3] {
        let mut refused = Quota::ALL.map(|quota| (quota.name(), 0));
        for (_, meter) in self.known.values() {
            let of_agent = meter.as_ref().map(|meter| locked(meter, |meter| meter.refused()));
            for (sum, n) in refused.iter_mut().zip(of_agent.unwrap_or_default()) {
                sum.1 += n;
            }
        }
        refused
    }

    /// All that are known, by name.
    pub fn all(&self) -> impl Iterator<Item = &Agent> {
        self.known.values().map(|(agent, _)| agent)
    }

    /// The policy of everybody else.
    pub fn anybody(&self) -> &Agent {
        &self.anybody
    }

    /// What an operator said about an agent of this name.
    pub fn get(&self, name: &str) -> &Agent {
        self.known.get(name).map_or(&self.anybody, |(agent, _)| agent)
    }

    /// The policy for whoever says to be this agent.
    ///
    /// # Errors
    /// When the agent has a key and the request has not, or has the key of another one, who would
    /// get rid of its quotas so.
    pub fn policy(&self, name: &str, headers: &HeaderMap) -> Result<Agent, ApiError> {
        let has_key = |name: &str| self.get(name).key_sha256.is_some();
        let proven = headers.get(AGENT_HEADER).and_then(|agent| agent.to_str().ok());
        if proven != Some(name) {
            if let Some(owner) = proven.filter(|&owner| has_key(owner)) {
                return Err(mismatch(owner, "agent_id", name));
            }
            if has_key(name) {
                return Err(unproven(name));
            }
        }
        Ok(self.get(name).clone())
    }

    /// What counts an agent's use, where that is limited.
    pub fn meter(&self, name: &str) -> Option<&SharedMeter> {
        self.known.get(name)?.1.as_ref()
    }
}

/// The refusal of who says to be an agent whose key it does not have.
pub fn unproven(name: &str) -> ApiError {
    let message = format!(
        "agent `{name}` has a key of its own: send it as `Authorization: Bearer KEY`, or ask under \
         another name"
    );
    ApiError::new(StatusCode::UNAUTHORIZED, "agent_key_required", message)
}

/// The refusal of who has an agent's key and says in some place to be another one.
pub fn mismatch(owner: &str, place: &str, other: &str) -> ApiError {
    let message = format!("the key is agent `{owner}`'s and {place} says `{other}`");
    ApiError::new(StatusCode::FORBIDDEN, "agent_mismatch", message)
}
