//! Text files of bounded size, plain or compressed with gzip, told apart by content.
//!
//! In: a path. Out: UTF-8 text, or a sentence that says which file is wrong, where, and what to do.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The bytes that a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a text of at most `max_bytes` bytes, measured after decompression. `fix` says what to do
/// with a longer one.
///
/// # Errors
/// When the file cannot be read, is larger, is damaged, or is not UTF-8.
pub fn read(path: &Path, max_bytes: u64, fix: &str) -> Result<String, String> {
    let named = |problem: String| format!("{}: {problem}", path.display());
    if path.as_os_str() == "-" {
        return Err("standard input cannot be read twice and is refused; save the text to a file \
                    and name it"
            .into());
    }
    let bytes = read_bytes(path, max_bytes, fix).map_err(named)?;
    String::from_utf8(bytes).map_err(|e| {
        named(format!(
            "it is not UTF-8 text from byte {} on; convert it, e.g. with `iconv -t UTF-8`",
            e.utf8_error().valid_up_to()
        ))
    })
}

fn read_bytes(path: &Path, max_bytes: u64, fix: &str) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("{e}; check the path");
    let mut file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err("it is not a file; name text files".into());
    }
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more, however far a small file expands.
    let limit = max_bytes.saturating_add(1);
    if magic == GZIP {
        let read = MultiGzDecoder::new(file).take(limit).read_to_end(&mut bytes);
        read.map_err(|e| format!("it is damaged gzip ({e}); download it again"))?;
    } else {
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it holds more than {max_bytes} bytes of text; {fix}"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn read_as_file(bytes: &[u8], max_bytes: u64) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        std::fs::write(&path, bytes).expect("writable");
        read(&path, max_bytes, "cut it")
    }

    #[test]
    fn plain_and_compressed_text_read_alike() {
        let text = "Größe \u{1F426}\n";
        assert_eq!(read_as_file(text.as_bytes(), 100).as_deref(), Ok(text));
        assert_eq!(read_as_file(&gzip(text.as_bytes()), 100).as_deref(), Ok(text));
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read_as_file(&two, 100).as_deref(), Ok("one two"));
        assert_eq!(read_as_file(b"", 100).as_deref(), Ok(""));
        assert_eq!(read_as_file(b"abc", 3).as_deref(), Ok("abc"));
    }

    #[test]
    fn what_cannot_be_used_gets_a_sentence() {
        let bomb = gzip(&vec![b'a'; 1 << 20]);
        assert!(bomb.len() < 10_000);
        for (bytes, word) in [
            (&b"ab\xff"[..], "byte 2"),
            (b"abcd\n....", "more than 8 bytes"),
            (&bomb, "more than 8 bytes"),
        ] {
            let said = read_as_file(bytes, 8).expect_err("it is wrong");
            assert!(said.contains(word), "{said}");
        }
        let cut = &gzip(b"a text that is cut")[..20];
        assert!(read_as_file(cut, 80).expect_err("cut").contains("damaged gzip"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(read(folder.path(), 8, "").expect_err("a folder").contains("not a file"));
        let missing = read(&folder.path().join("none"), 8, "").expect_err("missing");
        assert!(missing.contains("none") && missing.contains("check the path"), "{missing}");
        assert!(read(Path::new("-"), 8, "").expect_err("stdin").contains("standard input"));
    }
}
