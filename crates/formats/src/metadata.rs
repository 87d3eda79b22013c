//! Metadata of a checkpoint: an ordered map from key to typed value, as GGUF has it.
//!
//! Entries keep file order, because files are written in it; look-ups go through a second list that
//! is sorted by key, so that a file with 100,000 keys costs no quadratic time and no copy of keys.

/// A metadata value, with GGUF's types.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array; kept by element type, so that memory stays near the file's bytes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Str(Vec<String>),
    Nested(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
            Array::Nested(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keys and values in file order; a key occurs once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Takes entries in their order.
    ///
    /// # Errors
    /// With the first key that occurs twice.
    pub fn from_entries(entries: Vec<(String, Value)>) -> Result<Self, String> {
        assert!(entries.len() <= u32::MAX as usize, "metadata is indexed by u32");
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        by_key.sort_by(|&a, &b| entries[a as usize].0.cmp(&entries[b as usize].0));
        let twice = by_key
            .windows(2)
            .find(|pair| entries[pair[0] as usize].0 == entries[pair[1] as usize].0)
            .map(|pair| entries[pair[0] as usize].0.clone());
        match twice {
            Some(key) => Err(key),
            None => Ok(Self { entries, by_key }),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let slot = self.slot(key).ok()?;
        Some(&self.entries[self.by_key[slot] as usize].1)
    }

    /// Sets `key`, keeping its place if it was there.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.slot(&key) {
            Ok(slot) => self.entries[self.by_key[slot] as usize].1 = value,
            Err(slot) => {
                self.by_key.insert(slot, self.entries.len() as u32);
                self.entries.push((key, value));
            }
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        let Ok(slot) = self.slot(key) else { return };
        let gone = self.by_key.remove(slot);
        self.entries.remove(gone as usize);
        self.by_key.iter_mut().filter(|index| **index > gone).for_each(|index| *index -= 1);
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Any integer type, as `u64`, when not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// A string.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }

    /// Where `key` is in `by_key`, or where it would go.
    fn slot(&self, key: &str) -> Result<usize, usize> {
        self.by_key.binary_search_by(|&index| self.entries[index as usize].0.as_str().cmp(key))
    }
}
