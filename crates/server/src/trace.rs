//! W3C Trace Context: which trace of a client's a request belongs to.

use axum::http::HeaderMap;

/// A `traceparent` header, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace: 32 hexadecimal digits.
    pub trace_id: String,
    /// The client's span, in which this request is: 16 of them.
    pub parent_id: String,
    /// Whether the client keeps this trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the header. One that is not as the standard has it is no trace, as the standard says.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("traceparent")?.to_str().ok()?.trim())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32).filter(|id| !is_zero(id))?;
        let parent_id = hex(parts.next()?, 16).filter(|id| !is_zero(id))?;
        let flags = hex(parts.next()?, 2)?;
        // A later version may say more; this one may not, and `ff` is none.
        let is_valid = if version == "00" { parts.next().is_none() } else { version != "ff" };
        let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        is_valid.then(|| Self {
            trace_id: trace_id.into(),
            parent_id: parent_id.into(),
            is_sampled,
        })
    }
}

/// A part of so many lower-case hexadecimal digits.
fn hex(part: &str, len: usize) -> Option<&str> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (part.len() == len && part.bytes().all(is_digit)).then_some(part)
}

fn is_zero(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn headers_are_read_as_the_standard_has_them() {
        let good = format!("00-{TRACE}-b7ad6b7169203331-01");
        let found = TraceParent::parse(&good).unwrap();
        assert_eq!((found.trace_id.as_str(), found.is_sampled), (TRACE, true));
        assert_eq!(found.parent_id, "b7ad6b7169203331");
        let unsampled = TraceParent::parse(&format!("00-{TRACE}-b7ad6b7169203331-00")).unwrap();
        assert!(!unsampled.is_sampled);
        assert!(TraceParent::parse(&format!("01-{TRACE}-b7ad6b7169203331-01-more")).is_some());
        for bad in [
            "",
            "00",
            &format!("00-{TRACE}-b7ad6b7169203331"),
            &format!("ff-{TRACE}-b7ad6b7169203331-01"),
            &format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            &format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("00-{TRACE}-0000000000000000-01"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
