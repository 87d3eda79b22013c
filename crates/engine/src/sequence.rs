//! A request in work: its tokens, its pages, and those who wait for its answer.

use crate::EngineError;
use crate::answer_key::AnswerKey;
use crate::batch::Part;
use crate::constraint::Held;
use crate::disk::tier::Tier;
use crate::embedding::{Pool, Pooling};
use crate::guess::{Guess, Source};
use crate::pages::PagePool;
use crate::prefix::{Match, NodeId, PrefixTree, common};
use crate::request::{Class, FinishReason, Finished, Output, Request, RequestId, TokenLogprob};
use crate::salt::Salt;
use crate::text::Text;
use std::sync::Arc;
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Logits, PagedChunk, Sampler, SamplerMemory};

/// Somebody who waits for a sequence's answer.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The request.
    pub id: RequestId,
    /// Who asked.
    pub agent: String,
    /// When it came.
    pub arrived: Duration,
    /// How urgent it is.
    pub class: Class,
    /// When it got its first token.
    pub first_token: Option<Duration>,
    /// When it got its last one.
    pub last_token: Option<Duration>,
    /// When its answer is of no use any more.
    pub deadline: Option<Duration>,
    /// Whether it told what it expects.
    pub has_prediction: bool,
    /// Whether the sequence was there before it.
    pub is_late: bool,
}

impl Listener {
    /// Who waits for a request's answer.
    pub fn new(now: Duration, id: RequestId, request: &Request, is_late: bool) -> Self {
        let arrived = now.saturating_sub(request.waited);
        Self {
            id,
            agent: request.agent.clone(),
            arrived,
            class: request.class,
            first_token: None,
            last_token: None,
            deadline: request.deadline.map(|deadline| arrived + deadline),
            has_prediction: !request.prediction.is_empty(),
            is_late,
        }
    }
}

/// A request in work, or in the queue.
pub struct Sequence {
    /// Its number: the order of arrival.
    pub key: u64,
    /// What was asked; the prompt is in `tokens`.
    pub request: Request,
    /// What its answer depends on, where equal requests have equal answers.
    pub answer_key: Option<AnswerKey>,
    /// Who waits for it.
    pub listeners: Vec<Listener>,
    /// The sessions of all who ever did: they keep its pages.
    pub sessions: Vec<String>,
    /// The prompt, then what was generated.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Whether each of its tokens sees all others: see [`crate::Limits::reads_whole`].
    pub reads_whole: bool,
    /// Tokens whose keys and values are in the pages.
    pub n_computed: usize,
    /// Tokens of the prompt that were found in the prefix tree.
    pub n_cached: usize,
    /// While it waits, its first tokens that the tree or the disk had when that was looked up last.
    pub n_found: usize,
    /// While it waits, its first tokens that one who came before it has too, and computes first.
    pub n_followed: usize,
    /// Its pages, in order of position.
    pub pages: Vec<u32>,
    /// Whose its pages are.
    salt: Salt,
    /// The tree's node of the last page that it noted, and how many it noted.
    node: NodeId,
    n_noted: usize,
    /// The tree's leaf of a page that is not full yet.
    leaf: Option<NodeId>,
    /// When its first batch ran.
    pub started: Option<Duration>,
    /// Chooses its tokens.
    pub sampler: Sampler,
    /// A guess of its next tokens.
    pub guess: Guess,
    /// The states of its tokens, where it is to be embedded.
    pub pool: Pool,
    /// Where its answer is in the grammar that it is held to, since its first batch: a place takes
    /// memory, and many may wait.
    pub held: Option<Held>,
    /// What was generated, as text.
    pub text: Text,
    /// All pieces of the answer so far, for those who come late.
    pub said: Vec<Output>,
    /// The next token of the prompt whose log probability is to be told.
    next_told: usize,
}

impl Sequence {
    /// A request that waits.
    pub fn new(
        key: u64,
        mut request: Request,
        answer_key: Option<AnswerKey>,
        listener: Listener,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        let tokens = std::mem::take(&mut request.prompt);
        Self {
            key,
            n_prompt: tokens.len(),
            tokens,
            reads_whole: false,
            n_computed: 0,
            n_cached: 0,
            n_found: 0,
            n_followed: 0,
            pages: Vec::new(),
            salt: Salt::new(request.cache_salt.as_deref(), request.public_tokens),
            node: NodeId::ROOT,
            n_noted: 0,
            leaf: None,
            started: None,
            sampler: Sampler::new(request.sampling.clone()),
            guess: Guess::default(),
            pool: Pool::default(),
            held: None,
            text: Text::new(tokenizer, &request.stop.strings, &request.visible),
            said: Vec::new(),
            next_told: 1,
            listeners: vec![listener],
            sessions: request.session.iter().cloned().collect(),
            answer_key,
            request,
        }
    }

    /// How urgent it is: as its most urgent listener.
    pub fn class(&self) -> Class {
        self.listeners.iter().map(|listener| listener.class).min().unwrap_or(Class::Batch)
    }

    /// When its first listener came.
    pub fn arrived(&self) -> Duration {
        self.listeners.iter().map(|listener| listener.arrived).min().unwrap_or_default()
    }

    /// Tokens generated.
    pub fn n_new(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// Tokens to compute before the next can be chosen.
    pub fn n_left(&self) -> usize {
        self.tokens.len() - self.n_computed
    }

    /// Whether a batch computes one token of it and chooses the next.
    pub fn is_decoding(&self) -> bool {
        self.n_left() == 1 && self.n_new() > 0
    }

    /// Whether log probabilities of its prompt are still to come: its tokens must be computed then,
    /// whoever computed them before.
    pub fn wants_prompt(&self) -> bool {
        self.request.prompt_logprobs.is_some() && self.n_new() == 0
    }

    /// Whether its answer has tokens that follow one another.
    pub fn generates(&self) -> bool {
        self.request.max_tokens > 1
    }

    /// Tokens that may be guessed beside the next one: what is beyond its limit is of no use.
    pub fn n_guessable(&self) -> usize {
        let left = self.request.max_tokens.saturating_sub(self.n_new());
        if self.is_decoding() { left.saturating_sub(1) } else { 0 }
    }

    /// Whether all of its tokens must be computed, whoever computed them before.
    fn needs_all(&self) -> bool {
        self.reads_whole || self.wants_prompt() || self.pools_all()
    }

    /// Whether the states of all its tokens are told: the first is among them only so.
    fn pools_all(&self) -> bool {
        matches!(self.request.embed, Some(Pooling::Mean | Pooling::First))
    }

    /// What the tree has of it. One token is left at least, whose logits choose the next.
    pub fn find(&self, tree: &mut PrefixTree) -> Match {
        tree.find(&self.salt, &self.tokens[..self.n_shareable()])
    }

    /// Looks up how many of its first tokens need not be computed, since they are in the tree or on
    /// the disk.
    pub fn look_up(&mut self, tree: &mut PrefixTree, disk: Option<&mut Tier>) {
        let found = self.find(tree);
        let n_pages = found.pages.len();
        let n_kept = disk.map_or(0, |disk| disk.n_kept(self, n_pages));
        self.n_found = found.n_tokens().max((n_pages + n_kept) * PAGE_LEN);
    }

    /// Tokens of it that need not be computed where others computed them.
    pub fn n_shareable(&self) -> usize {
        if self.needs_all() { 0 } else { self.tokens.len() - 1 }
    }

    /// Whose its pages are.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Tokens that another sequence has in pages that this one finds, of those that it need not
    /// compute.
    pub fn common(&self, other: &Self) -> usize {
        if self.needs_all() {
            return 0;
        }
        let alike = common(&self.tokens[..self.tokens.len() - 1], &other.tokens);
        self.salt.shared(&other.salt, alike)
    }

    /// Shares the pages that the tree has.
    pub fn adopt(&mut self, pool: &mut PagePool, found: &Match) {
        assert!(self.pages.is_empty());
        self.pool.clear();
        for &page in &found.pages {
            pool.share(page);
        }
        self.pages.extend(&found.pages);
        (self.node, self.n_noted) = (found.node, found.pages.len());
        self.n_computed = found.pages.len() * PAGE_LEN;
    }

    /// Notes in the tree the pages that are full, and the beginning of the next where the prompt or
    /// the answer ends in it.
    ///
    /// What is computed as a whole is of use to nobody else.
    pub fn note(&mut self, tree: &mut PrefixTree, pool: &mut PagePool, is_over: bool) {
        if self.reads_whole {
            return;
        }
        while (self.n_noted + 1) * PAGE_LEN <= self.n_computed {
            let at = self.n_noted * PAGE_LEN;
            self.forget_leaf(tree, pool);
            let (tokens, own) = (&self.tokens[at..at + PAGE_LEN], self.pages[self.n_noted]);
            let head = self.salt.head(self.n_noted);
            let (node, page) = tree.insert(pool, self.node, head, tokens, own);
            if page != own {
                // Somebody computed the same: the bits are the same too.
                pool.share(page);
                pool.release(own);
                self.pages[self.n_noted] = page;
            }
            (self.node, self.n_noted) = (node, self.n_noted + 1);
        }
        let at = self.n_noted * PAGE_LEN;
        let is_whole = self.n_computed == self.n_prompt || is_over;
        if is_whole && self.n_computed > at {
            self.forget_leaf(tree, pool);
            let (tokens, own) = (&self.tokens[at..self.n_computed], self.pages[self.n_noted]);
            let head = self.salt.head(self.n_noted);
            let (leaf, page) = tree.insert(pool, self.node, head, tokens, own);
            self.leaf = (page == own).then_some(leaf);
        }
    }

    fn forget_leaf(&mut self, tree: &mut PrefixTree, pool: &mut PagePool) {
        if let Some(leaf) = self.leaf.take() {
            tree.remove(pool, leaf);
        }
    }

    /// Gives its pages back; the tree keeps what it noted.
    pub fn release(&mut self, tree: &mut PrefixTree, pool: &mut PagePool) {
        self.note(tree, pool, true);
        self.n_found = self.n_computed.min(self.n_shareable());
        for page in self.pages.drain(..).rev() {
            pool.release(page);
        }
        (self.node, self.n_noted, self.leaf, self.n_computed) = (NodeId::ROOT, 0, None, 0);
    }

    /// The next token, by the logits of the last one; the memory is for all sequences.
    ///
    /// # Errors
    /// When a logit is not a number, or its grammar cannot be followed.
    pub fn choose(&mut self, row: &[f32], memory: &mut SamplerMemory) -> Result<u32, EngineError> {
        let allowed = self.held.as_mut().map(Held::allowed).transpose()?;
        self.sampler.swap_memory(memory);
        let chosen = self.sampler.sample_allowed(row, &self.tokens, self.n_prompt, allowed);
        self.sampler.swap_memory(memory);
        chosen.map_err(|error| EngineError::Internal(error.to_string()))
    }

    /// Its part of a batch: the next tokens, or the last one and a guess of what follows.
    pub fn chunk(&self, part: &Part) -> PagedChunk<'_> {
        let position = self.n_computed;
        let tokens = match part.n_drafted {
            0 => &self.tokens[position..position + part.n_tokens],
            _ => &self.guess.rows()[..part.n_tokens],
        };
        PagedChunk { pages: &self.pages, position, tokens, logits: part.logits }
    }

    /// Whose logits the next `n_tokens` want.
    pub fn logits(&self, n_tokens: usize) -> Logits {
        let is_last = self.n_computed + n_tokens == self.tokens.len();
        match () {
            () if self.pools_all() => Logits::AllHidden,
            () if is_last && self.request.embed == Some(Pooling::Last) => Logits::LastHidden,
            () if self.wants_prompt() => Logits::All,
            () if is_last && self.request.max_tokens > 0 => Logits::Last,
            () => Logits::None,
        }
    }

    /// The log probabilities of the prompt's tokens that follow those just computed, each once:
    /// `logits` has a row for each token since `first`.
    pub fn prompt_logprobs(&mut self, logits: &[f32], first: usize) -> Vec<TokenLogprob> {
        let Some(n_top) = self.request.prompt_logprobs.filter(|_| self.wants_prompt()) else {
            return Vec::new();
        };
        let vocab = logits.len() / (self.n_computed - first).max(1);
        let next = (first + 1..self.n_prompt).zip(logits.chunks_exact(vocab.max(1)));
        let new = next.filter(|&(at, _)| at >= self.next_told);
        let told: Vec<TokenLogprob> =
            new.map(|(at, row)| crate::logprobs::of(row, self.tokens[at], n_top)).collect();
        self.next_told += told.len();
        told
    }

    /// Takes the state of its next token, where it is to be embedded.
    pub fn take_state(&mut self, state: &[f32]) {
        if self.request.embed != Some(Pooling::First) || self.pool.is_empty() {
            self.pool.add(state);
        }
    }

    /// The end, as a listener sees it.
    pub fn finished(
        &self,
        listener: &Listener,
        now: Duration,
        reason: FinishReason,
        text: String,
    ) -> Finished {
        let started = self.started.unwrap_or(now).max(listener.arrived);
        let first = listener.first_token.unwrap_or(now);
        let is_whole = reason != FinishReason::Cancelled;
        let embedding = self.request.embed.filter(|_| is_whole).map(|_| self.pool.embedding());
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        Finished {
            reason,
            text,
            prompt_tokens: self.n_prompt,
            cached_tokens: self.n_cached,
            new_tokens: self.n_new(),
            queue_seconds: seconds(listener.arrived, started),
            prefill_seconds: seconds(started, first),
            decode_seconds: seconds(first, now),
            embedding,
            guessed: Source::ALL.into_iter().map(|source| self.guess.counted(source)).sum(),
            predicted: listener.has_prediction.then(|| self.guess.counted(Source::Prediction)),
            is_coalesced: listener.is_late,
            age: None,
            stop_text: self.text.stopped_by().map(str::to_owned),
        }
    }
}
