//! Server-sent events: lines of bytes to events, as the HTML standard has them.
//!
//! In: a body as far as it came. Out: its events, with the byte at which each was complete. Bytes
//! are split at line ends only, so that a character may lie in two packets.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its data lines, joined by line feeds.
    pub data: Vec<u8>,
    /// Whether the server calls it an error. llama.cpp used to write `error:` for `data:`.
    pub is_error: bool,
    /// The offset after its last line of data.
    pub end: usize,
}

/// All events; the last may end with the body, for want of an empty line.
pub fn events(body: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut event = Event::default();
    let mut end = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match field(line) {
            _ if line.is_empty() => events.extend(std::mem::take(&mut event).whole()),
            (b"data", value) => event.add(value, end),
            (b"error", value) => {
                event.is_error = true;
                event.add(value, end);
            }
            (b"event", value) => event.is_error |= value == b"error",
            // Comments have an empty name; ids and times to retry are of no use here.
            _ => {}
        }
    }
    events.extend(event.whole());
    events
}

impl Event {
    fn add(&mut self, value: &[u8], end: usize) {
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
        self.end = end;
    }

    /// Without the line feed that every line of data adds; `None` if there was no data.
    fn whole(mut self) -> Option<Self> {
        self.data.pop().map(|_| self)
    }
}

/// A line's name and value; a space after the colon is not part of the value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &str) -> Vec<String> {
        let events = events(body.as_bytes()).into_iter();
        events.map(|event| String::from_utf8(event.data).unwrap()).collect()
    }

    #[test]
    fn events_are_lines_of_data() {
        assert_eq!(data("data: a\n\ndata:b\n\ndata:  c\n\n"), ["a", "b", " c"]);
        assert_eq!(data("data: a\r\n\r\ndata: [DONE]\r\n\r\n"), ["a", "[DONE]"]);
        assert_eq!(data("data: a\ndata: b\n\ndata: c"), ["a\nb", "c"]);
        assert_eq!(data("data: {\"a\": \"b:c\"}\n\n"), ["{\"a\": \"b:c\"}"]);
        assert_eq!(data("data\n\n"), [""]);
    }

    #[test]
    fn comments_and_other_fields_are_left_out() {
        let body =
            ": ping\n\nid: 7\nretry: 100\nevent: message\ndata: a\n: more\n\n:\n\nevent: x\n\n";
        assert_eq!(data(body), ["a"]);
        assert!(data("").is_empty() && data("\n\n\r\n").is_empty());
        assert!(data("{\"choices\": []}").is_empty());
    }

    #[test]
    fn errors_are_marked() {
        let flags = |body: &str| -> Vec<bool> {
            events(body.as_bytes()).iter().map(|event| event.is_error).collect()
        };
        assert_eq!(flags("event: error\ndata: a\n\ndata: b\n\n"), [true, false]);
        assert_eq!(flags("data: a\n\nerror: {\"code\": 500}\n\ndata: b\n\n"), [false, true, false]);
        assert_eq!(data("error: {}\n\n"), ["{}"]);
    }

    #[test]
    fn ends_are_those_of_the_data() {
        let body = "data: ä\n\n: x\ndata: b\n\n";
        let ends: Vec<usize> = events(body.as_bytes()).iter().map(|event| event.end).collect();
        assert_eq!(ends, [9, 22]);
        // Whatever has arrived, an event is seen whole once its end has.
        for n in 0..=body.len() {
            let seen = events(&body.as_bytes()[..n]);
            assert_eq!(
                seen.iter().filter(|e| e.data == "ä".as_bytes()).count(),
                usize::from(n >= 8)
            );
        }
    }
}
