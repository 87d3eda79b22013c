//! Requests and machines without surprises.

use super::*;

pub fn plain(prompt: Vec<u32>, max_tokens: usize, agent: &str, class: Class) -> Request {
    Request {
        prompt,
        max_tokens,
        sampling: SamplerSettings::greedy(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        agent: agent.to_owned(),
        class,
        ..Request::default()
    }
}

pub fn roomy() -> Limits {
    Limits {
        n_pages: 4096,
        context_len: 128 * PAGE_LEN,
        max_rows: 512,
        max_running: 64,
        max_queue: 1000,
        vocabulary: VOCABULARY,
        reads_whole: false,
        itl_target: None,
        answers: AnswerLimits::default(),
    }
}
