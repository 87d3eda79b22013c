//! llama2.c's `.bin`, version 0: seven numbers, then f32 weights, stacked by kind over the layers.
//!
//! It is presented as GGUF presents a Llama: the same metadata keys and tensor names, layer by
//! layer, so that nobody else needs to know this layout. Its rotation pairs neighbours, as GGUF's
//! does, so no row moves. The two tables of rotation angles are skipped: they follow from the base
//! 10000.
//! Source: karpathy/llama2.c, `run.c` (memory_map_weights, build_tokenizer) and `export.py`.

mod tokenizer;

use super::{Container, Source};
use crate::encodings::by_name;
use crate::error::{DAMAGED, TRUNCATED, bytes_text, grouped};
use crate::{
    Checkpoint, FormatError, MappedFile, Metadata, OpenOptions, Stored, TensorInfo, Value,
};
use std::path::Path;

/// The container.
pub struct Llama2c;

/// Bytes of the seven numbers.
const HEADER_LEN: usize = 28;
/// No dimension of a model is larger; a file that begins with larger ones is something else.
const MAX_DIM: i32 = 1 << 24;

impl Container for Llama2c {
    fn name(&self) -> &'static str {
        "llama2c"
    }

    /// The format has no magic: seven small numbers must do, or the extension.
    fn recognizes(&self, source: &Source) -> bool {
        let Some((numbers, _)) = source.bytes().split_first_chunk::<HEADER_LEN>() else {
            return false;
        };
        let small = |n: i32| n != 0 && n.unsigned_abs() <= MAX_DIM as u32;
        numbers_of(numbers).into_iter().all(small) || source.has_extension("bin")
    }

    fn open(&self, source: Source, options: &OpenOptions) -> Result<Checkpoint, FormatError> {
        let file = source.into_file();
        let header = Header::read(&file)?;
        let tensors = header.tensors(&file)?;
        let mut metadata = header.metadata(file.path());
        tokenizer::add(&mut metadata, file.path(), header.vocab, options)?;
        let checkpoint = Checkpoint {
            path: file.path().to_owned(),
            container: self.name(),
            metadata,
            tensors,
            files: vec![file],
            ..Checkpoint::default()
        };
        checkpoint.indexed()
    }
}

fn numbers_of(bytes: &[u8; HEADER_LEN]) -> [i32; 7] {
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|i| i32::from_le_bytes(words[i]))
}

/// The file's seven numbers.
struct Header {
    dim: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    context: usize,
    /// Whether the classifier is the token embedding.
    tied: bool,
}

impl Header {
    fn read(file: &MappedFile) -> Result<Self, FormatError> {
        let Some((bytes, _)) = file.bytes().split_first_chunk::<HEADER_LEN>() else {
            let problem = format!("has {} bytes, too few for a header", file.bytes().len());
            return Err(FormatError::new(file.path(), problem, TRUNCATED));
        };
        let numbers = numbers_of(bytes);
        const NAMES: [&str; 7] =
            ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"];
        for (&number, name) in numbers.iter().zip(NAMES) {
            // A negative vocabulary says that the classifier has its own weights.
            let size = if name == "vocab_size" { number.saturating_abs() } else { number };
            if !(1..=MAX_DIM).contains(&size) {
                let problem = format!("the header's {name} is {number}");
                let fix = "give a llama2.c checkpoint of version 0, or download it again";
                return Err(FormatError::new(file.path(), problem, fix));
            }
        }
        let [dim, hidden, layers, heads, kv_heads, vocab, context] =
            numbers.map(|n| n.unsigned_abs() as usize);
        let tied = numbers[5] > 0;
        let header = Self { dim, hidden, layers, heads, kv_heads, vocab, context, tied };
        match header.disagreement() {
            Some(problem) => Err(FormatError::new(file.path(), problem, DAMAGED)),
            None => Ok(header),
        }
    }

    fn disagreement(&self) -> Option<String> {
        let Self { dim, heads, kv_heads, .. } = *self;
        if !dim.is_multiple_of(heads) || !(dim / heads).is_multiple_of(2) {
            Some(format!("the header's dim {dim} does not divide into {heads} heads of even size"))
        } else if !heads.is_multiple_of(kv_heads) {
            Some(format!("the header's n_heads {heads} is no multiple of n_kv_heads {kv_heads}"))
        } else {
            None
        }
    }

    fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// GGUF's keys for these numbers.
    fn metadata(&self, path: &Path) -> Metadata {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = |n: usize| Value::U32(n as u32);
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::Str("llama".into()));
        metadata.set("general.name", Value::Str(name));
        metadata.set("llama.vocab_size", number(self.vocab));
        metadata.set("llama.context_length", number(self.context));
        metadata.set("llama.embedding_length", number(self.dim));
        metadata.set("llama.block_count", number(self.layers));
        metadata.set("llama.feed_forward_length", number(self.hidden));
        metadata.set("llama.rope.dimension_count", number(self.head_dim()));
        metadata.set("llama.rope.freq_base", Value::F32(10000.0));
        metadata.set("llama.attention.head_count", number(self.heads));
        metadata.set("llama.attention.head_count_kv", number(self.kv_heads));
        metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        metadata
    }

    /// GGUF name, rows (0 for a vector), columns of what each layer has, in the order of the file.
    fn layer_kinds(&self) -> [(&'static str, usize, usize); 9] {
        let Self { dim, hidden, .. } = *self;
        let kv_dim = self.kv_heads * self.head_dim();
        [
            ("attn_norm", 0, dim),
            ("attn_q", dim, dim),
            ("attn_k", kv_dim, dim),
            ("attn_v", kv_dim, dim),
            ("attn_output", dim, dim),
            ("ffn_norm", 0, dim),
            ("ffn_gate", hidden, dim),
            ("ffn_down", dim, hidden),
            ("ffn_up", hidden, dim),
        ]
    }

    /// Where everything is, layer by layer.
    fn tensors(&self, file: &MappedFile) -> Result<Vec<TensorInfo>, FormatError> {
        // Each product is at most 2^24 * 2^24 * 2^24 values, so u128 sums cannot overflow, and the
        // check against the file's length makes all of them small before anything is allocated.
        let mut end = HEADER_LEN as u128;
        let mut stack = |count: usize, rows: usize, cols: usize| {
            let start = end;
            end += 4 * count as u128 * rows.max(1) as u128 * cols as u128;
            start
        };
        let embedding = stack(1, self.vocab, self.dim);
        let kinds = self.layer_kinds();
        let starts = kinds.map(|(_, rows, cols)| stack(self.layers, rows, cols));
        let norm = stack(1, 0, self.dim);
        stack(2, self.context, self.head_dim() / 2);
        let output = (!self.tied).then(|| stack(1, self.vocab, self.dim));
        let len = file.bytes().len();
        if end != len as u128 {
            let problem = format!(
                "the header describes {} bytes (dim {}, {} layers, vocabulary {}) but the file \
                 has {} bytes",
                grouped(end),
                self.dim,
                self.layers,
                self.vocab,
                bytes_text(len)
            );
            let fix = if end > len as u128 { TRUNCATED } else { DAMAGED };
            return Err(FormatError::new(file.path(), problem, fix));
        }
        let mut out = vec![info("token_embd.weight".into(), self.vocab, self.dim, embedding)];
        for layer in 0..self.layers {
            for ((kind, rows, cols), start) in kinds.into_iter().zip(starts) {
                let start = start + 4 * (layer * rows.max(1) * cols) as u128;
                out.push(info(format!("blk.{layer}.{kind}.weight"), rows, cols, start));
            }
        }
        out.push(info("output_norm.weight".into(), 0, self.dim, norm));
        out.extend(output.map(|start| info("output.weight".into(), self.vocab, self.dim, start)));
        Ok(out)
    }
}

/// A tensor at a start that was checked to lie in the file; `rows` 0 makes a vector.
fn info(name: String, rows: usize, cols: usize, start: u128) -> TensorInfo {
    let f32 = by_name("F32").expect("the float encodings are registered");
    let shape = if rows == 0 { vec![cols] } else { vec![rows, cols] };
    let n_bytes = 4 * rows.max(1) * cols;
    TensorInfo { name, shape, stored: Stored::Known(f32), file: 0, offset: start as usize, n_bytes }
}
