//! What people hand over instead of a model, and what to tell them.
//!
//! A catalogue: each kind is one line with the way to recognize it, what it is, and the fix.

use super::Source;
use crate::FormatError;

/// One kind of file that is no readable model.
struct Kind {
    recognizes: fn(&Source) -> bool,
    is: &'static str,
    fix: &'static str,
}

const UNPACK: &str = "unpack it and give what is inside";
const TO_SAFETENSORS: &str =
    "convert it to safetensors where you trust it (torch.load, then safetensors.torch.save_file)";

const KINDS: &[Kind] = &[
    Kind {
        recognizes: |s| s.bytes().starts_with(b"version https://git-lfs"),
        is: "is a git-lfs pointer, not the model itself",
        fix: "run `git lfs pull` in its repository, or download the file by its link",
    },
    Kind {
        recognizes: is_html,
        is: "is an HTML page, not a model: its download failed or wants a login",
        fix: "download it again from the link to the raw file",
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(b"PK\x03\x04") && is_torch_zip(s),
        is: "is a PyTorch pickle, which can run any code when it is loaded",
        fix: TO_SAFETENSORS,
    },
    Kind {
        // PROTO, protocol 2 to 5, then what torch.save writes first: a long, a dict, a frame, ...
        recognizes: |s| {
            matches!(s.bytes(), [0x80, 2..=5, b'c' | b'}' | b']' | b'(' | 0x8a | 0x95, ..])
        },
        is: "is a Python pickle (an old PyTorch file), which can run any code when it is loaded",
        fix: TO_SAFETENSORS,
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(b"PK\x03\x04"),
        is: "is a zip archive",
        fix: UNPACK,
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(&[0x1f, 0x8b, 8]),
        is: "is compressed with gzip",
        fix: UNPACK,
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        is: "is compressed with zstd",
        fix: UNPACK,
    },
    Kind {
        recognizes: |s| s.bytes().get(257..262) == Some(b"ustar"),
        is: "is a tar archive",
        fix: UNPACK,
    },
    Kind {
        recognizes: |s| {
            matches!(s.bytes().first_chunk(), Some(b"tjgg" | b"lmgg" | b"fmgg" | b"algg"))
        },
        is: "is a GGML file from before GGUF (August 2023)",
        fix: "get a GGUF file of this model, or convert it anew with llama.cpp",
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(b"24ka"),
        is: "is a llama2.c checkpoint of version 1 or 2",
        fix: "export it with `--version 0` of llama2.c's export.py",
    },
    Kind {
        recognizes: |s| s.has_extension("onnx"),
        is: "is an ONNX model, which Sterna cannot read",
        fix: "give the safetensors or GGUF file that it was exported from",
    },
    Kind {
        recognizes: |s| s.bytes().starts_with(b"\x89HDF"),
        is: "is an HDF5 file (Keras), which Sterna cannot read",
        fix: "give a safetensors or GGUF file",
    },
    Kind {
        recognizes: |s| s.bytes().get(4..8) == Some(b"TFL3"),
        is: "is a TensorFlow Lite model, which Sterna cannot read",
        fix: "give a safetensors or GGUF file",
    },
    Kind {
        recognizes: |s| {
            matches!(s.bytes(), [b'{' | b'[', rest @ ..] if !rest.iter().take(8).any(|&b| b == 0))
                && !super::safetensors::is_index(s)
        },
        is: "is a JSON file, not a model",
        fix: "give the directory it lies in, or the model.safetensors.index.json",
    },
];

/// Refuses what is known to be no readable model.
pub(super) fn check(source: &Source) -> Result<(), FormatError> {
    // The length that a safetensors file begins with may look like any of these by chance.
    if super::safetensors::has_header(source) {
        return Ok(());
    }
    match KINDS.iter().find(|kind| (kind.recognizes)(source)) {
        Some(kind) => Err(FormatError::new(source.path(), kind.is, kind.fix)),
        None => Ok(()),
    }
}

/// The sentence for a file that nothing recognizes.
pub(super) fn unrecognized(source: &Source) -> FormatError {
    let head: Vec<String> = source.bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    FormatError::new(
        source.path(),
        format!("is no model that Sterna knows (it begins with the bytes {})", head.join(" ")),
        "give a GGUF or safetensors file, a Hugging Face directory, or a llama2.c .bin",
    )
}

fn is_html(source: &Source) -> bool {
    let bytes = source.bytes();
    let head = bytes[..bytes.len().min(256)].trim_ascii_start().to_ascii_lowercase();
    [&b"<!doctype"[..], b"<html", b"<head", b"<?xml"].iter().any(|tag| head.starts_with(tag))
}

/// torch.save names its first member `archive/data.pkl` or the like.
fn is_torch_zip(source: &Source) -> bool {
    let bytes = source.bytes();
    bytes[..bytes.len().min(256)].windows(8).any(|window| window == b"data.pkl")
        || ["pt", "pth", "bin", "ckpt"].iter().any(|e| source.has_extension(e))
}
