//! Any bytes as a file of kept keys and values: a refusal, or a header that is written as it was
//! read.
#![no_main]

use std::io::Cursor;
use sterna_engine::disk::segment::Header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::read(&mut Cursor::new(bytes), bytes.len() as u64) else { return };
    assert!(bytes.starts_with(&header.encode()));
    assert_eq!(header.hashes().len(), header.sums.len());
    for page in 0..header.sums.len() {
        let _ = header.read_page(&mut Cursor::new(bytes), page);
    }
});
