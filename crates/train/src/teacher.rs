//! A teacher's logits: any artifact run by `runtime`, cached on disk.
