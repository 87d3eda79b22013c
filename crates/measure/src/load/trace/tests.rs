//! What traces become, and which lines are refused.

use super::*;

fn parse(name: &str, text: &str) -> Result<Vec<Record>, String> {
    Format::by_name(name).unwrap().parse(text).map_err(|error| error.to_string())
}

#[test]
fn an_azure_trace_is_read() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:04.5,3180,8\r\n\
                2023-11-16 18:17:03.5,4808,10\r\n\r\n2023-11-16 18:18:04.5,110,27";
    let records = parse("azure", text).unwrap();
    let lengths: Vec<_> = records.iter().map(|r| (r.at, r.n_prompt, r.n_gen)).collect();
    assert_eq!(lengths, [(0.0, 4808, 10), (1.0, 3180, 8), (61.0, 110, 27)]);
    assert!(records.iter().all(|record| record.blocks.is_empty()));
}

#[test]
fn a_mooncake_trace_is_read() {
    let text = "{\"timestamp\": 3000, \"input_length\": 513, \"output_length\": 5, \
                \"hash_ids\": [0, 14], \"more\": true}\n\
                {\"timestamp\": 4500, \"input_length\": 512, \"output_length\": 1, \
                \"hash_ids\": [0]}\n";
    let records = parse("mooncake", text).unwrap();
    let first = Record { at: 0.0, n_prompt: 513, n_gen: 5, blocks: vec![0, 14] };
    let second = Record { at: 1.5, n_prompt: 512, n_gen: 1, blocks: vec![0] };
    assert_eq!(records, [first, second]);
}

#[test]
fn hostile_lines_are_named() {
    let azure = |line: &str| {
        let good = "2023-11-16 18:17:03,1,1";
        let heading = "TIMESTAMP,ContextTokens,GeneratedTokens";
        parse("azure", &format!("{heading}\n{good}\n{line}\n")).unwrap_err()
    };
    let time = "2023-11-16 18:17:03";
    for (line, says) in [
        ("oops".to_owned(), "is no request"),
        (format!("{time},1"), "is no request"),
        (format!("{time},1,1,1"), "is no request"),
        (format!("{time},-1,1"), "is no request"),
        (format!("{time},1.5,1"), "is no request"),
        (format!("{time},99999999999999999999999,1"), "is no request"),
        (format!("{time},0,1"), "its prompt is 0 tokens"),
        (format!("{time},1,1048577"), "its answer is 1048577 tokens"),
        ("x".repeat(100_000), "is no request"),
    ] {
        let error = azure(&line);
        assert!(error.starts_with("line 3: ") && error.contains(says), "{error}");
        assert!(error.len() < 300, "{error}");
    }
    let mooncake = |line: &str| parse("mooncake", line).unwrap_err();
    let line = |timestamp: &str, input: &str, hashes: &str| {
        format!(
            "{{\"timestamp\": {timestamp}, \"input_length\": {input}, \"output_length\": 1, \
             \"hash_ids\": [{hashes}]}}"
        )
    };
    for (line, says) in [
        ("{}".to_owned(), "missing field"),
        (line("0", "\"9\"", "1"), "is no request"),
        (line("0", "600", "1"), "1 block hashes, but 600 tokens are 2"),
        (line("0", "18446744073709551615", "1"), "block hashes"),
        (line("-5", "1", "1"), "which is no time"),
        (line("1e999", "1", "1"), "is no request"),
        (line("0", "1", "-1"), "is no request"),
    ] {
        let error = mooncake(&line);
        assert!(error.starts_with("line 1: ") && error.contains(says), "{error}");
    }
}

#[test]
fn a_trace_has_its_heading_and_requests() {
    assert!(parse("azure", "").unwrap_err().contains("line 1: \"\" is not the heading"));
    assert!(parse("azure", "a,b\n").unwrap_err().contains("TIMESTAMP"));
    let empty = parse("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n").unwrap_err();
    assert_eq!(empty, "it has no requests");
    assert_eq!(parse("mooncake", "\n").unwrap_err(), "it has no requests");
    assert!(Format::by_name("splitwise").is_none());
}
