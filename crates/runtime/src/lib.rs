//! Runs a graph on this machine: rewrite, lower, pack, arena, KV pages, thread team, execute.
#![deny(unsafe_code)]
