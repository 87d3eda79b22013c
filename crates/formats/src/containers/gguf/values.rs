//! Metadata values as bytes: little-endian numbers, strings with a length, arrays with a type.
//!
//! Reading trusts no count: a [`Cursor`] hands out bytes only if the file has them, and room for an
//! array is made only after its elements were seen to fit in what is left, so that memory stays
//! within a small multiple of the file.

use crate::error::{DAMAGED, TRUNCATED, bytes_text, grouped};
use crate::{Array, FormatError, Value};
use std::path::Path;

/// Arrays within arrays go no deeper; no known file has more than two.
const MAX_DEPTH: usize = 16;

/// What is wrong at a place that the caller knows better how to name.
#[derive(Debug)]
pub(super) struct Fault {
    problem: String,
    fix: &'static str,
}

impl Fault {
    pub(super) fn new(problem: impl Into<String>, fix: &'static str) -> Self {
        Self { problem: problem.into(), fix }
    }

    pub(super) fn of(self, path: &Path, place: &str) -> FormatError {
        FormatError::new(path, format!("{place} {}", self.problem), self.fix)
    }
}

/// A place in the file's bytes that moves forward.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        if n > self.left() as u64 {
            return Err(Fault::new(
                format!(
                    "needs {} bytes at byte {} but the file has {} bytes",
                    grouped(n),
                    bytes_text(self.at),
                    bytes_text(self.bytes.len())
                ),
                TRUNCATED,
            ));
        }
        let out = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    /// A count of things that take at least `min_bytes` each.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, Fault> {
        let n = self.u64()?;
        self.bounded(n, min_bytes)
    }

    /// A string with its length before it.
    pub(super) fn string(&mut self) -> Result<&'a str, Fault> {
        let n = self.u64()?;
        let start = self.at;
        std::str::from_utf8(self.take(n)?).map_err(|e| {
            let at = bytes_text(start + e.valid_up_to());
            Fault::new(format!("is not UTF-8 at byte {at}"), DAMAGED)
        })
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        Ok(self.take(N as u64)?.try_into().expect("take gives the length asked for"))
    }

    fn bounded(&self, n: u64, min_bytes: usize) -> Result<usize, Fault> {
        if n > (self.left() / min_bytes) as u64 {
            return Err(Fault::new(
                format!(
                    "claims {} entries at byte {} but the file has {} bytes",
                    grouped(n),
                    bytes_text(self.at),
                    bytes_text(self.bytes.len())
                ),
                TRUNCATED,
            ));
        }
        Ok(n as usize)
    }

    /// `n` numbers of `N` bytes.
    fn numbers<const N: usize, T>(&mut self, from: fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
        let n = self.count(N)?;
        let (chunks, _) = self.take((n * N) as u64)?.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| from(chunk)).collect())
    }
}

/// Reads a value of type number `kind`.
pub(super) fn read_value(c: &mut Cursor, kind: u32) -> Result<Value, Fault> {
    Ok(match kind {
        0 => Value::U8(c.number::<1>()?[0]),
        1 => Value::I8(i8::from_le_bytes(c.number()?)),
        2 => Value::U16(u16::from_le_bytes(c.number()?)),
        3 => Value::I16(i16::from_le_bytes(c.number()?)),
        4 => Value::U32(c.u32()?),
        5 => Value::I32(i32::from_le_bytes(c.number()?)),
        6 => Value::F32(f32::from_le_bytes(c.number()?)),
        7 => Value::Bool(boolean(c.number::<1>()?[0])?),
        8 => Value::Str(c.string()?.to_owned()),
        9 => Value::Array(read_array(c, 1)?),
        10 => Value::U64(c.u64()?),
        11 => Value::I64(i64::from_le_bytes(c.number()?)),
        12 => Value::F64(f64::from_le_bytes(c.number()?)),
        _ => return Err(unknown_kind(kind)),
    })
}

fn read_array(c: &mut Cursor, depth: usize) -> Result<Array, Fault> {
    if depth > MAX_DEPTH {
        let problem = format!("nests arrays more than {MAX_DEPTH} deep at byte {}", c.at);
        return Err(Fault::new(problem, DAMAGED));
    }
    let kind = c.u32()?;
    Ok(match kind {
        0 => Array::U8(c.numbers::<1, _>(|b| b[0])?),
        1 => Array::I8(c.numbers(i8::from_le_bytes)?),
        2 => Array::U16(c.numbers(u16::from_le_bytes)?),
        3 => Array::I16(c.numbers(i16::from_le_bytes)?),
        4 => Array::U32(c.numbers(u32::from_le_bytes)?),
        5 => Array::I32(c.numbers(i32::from_le_bytes)?),
        6 => Array::F32(c.numbers(f32::from_le_bytes)?),
        7 => {
            let n = c.count(1)?;
            Array::Bool(c.take(n as u64)?.iter().map(|&b| boolean(b)).collect::<Result<_, _>>()?)
        }
        8 => {
            let n = c.count(8)?;
            let mut strings = Vec::with_capacity(n);
            for _ in 0..n {
                strings.push(c.string()?.to_owned());
            }
            Array::Str(strings)
        }
        9 => {
            let n = c.count(12)?;
            let mut arrays = Vec::with_capacity(n);
            for _ in 0..n {
                arrays.push(read_array(c, depth + 1)?);
            }
            Array::Nested(arrays)
        }
        10 => Array::U64(c.numbers(u64::from_le_bytes)?),
        11 => Array::I64(c.numbers(i64::from_le_bytes)?),
        12 => Array::F64(c.numbers(f64::from_le_bytes)?),
        _ => return Err(unknown_kind(kind)),
    })
}

fn boolean(byte: u8) -> Result<bool, Fault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::new(format!("has {byte} where a boolean (0 or 1) belongs"), DAMAGED)),
    }
}

fn unknown_kind(kind: u32) -> Fault {
    let problem = format!("has the value type {}, and GGUF knows 0 to 12", grouped(kind));
    Fault::new(problem, DAMAGED)
}

/// The type number of a value.
pub(super) fn kind_of(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::Str(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

/// Appends a value's bytes, without its type.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::Str(v) => write_string(out, v),
        Value::Array(v) => write_array(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

/// Appends a string with its length before it.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_array(out: &mut Vec<u8>, array: &Array) {
    let kind: u32 = match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::Str(_) => 8,
        Array::Nested(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    };
    out.extend(kind.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
        Array::Str(v) => v.iter().for_each(|x| write_string(out, x)),
        Array::Nested(v) => v.iter().for_each(|x| write_array(out, x)),
        Array::U64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
    }
}
