//! Trains byte-level BPE tokenizers.
