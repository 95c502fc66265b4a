//! Protobuf's wire format, read in place.
//!
//! A [`Reader`] walks the fields of one message and hands out slices of the file, so that
//! nothing is allocated on a length that the file only claims. Nesting and the number of
//! messages are bounded: a few bytes of hostile input must not become a deep stack or a
//! large table.

use std::cell::Cell;

/// How deeply messages may nest. An ordinary model needs about ten levels and four more
/// for each level of control flow.
const MAX_DEPTH: u32 = 100;

/// How many messages and strings a file may hold.
pub(super) const MAX_ITEMS: usize = 1 << 24;

/// What is wrong with the bytes, and where.
#[derive(Debug)]
pub(super) struct WireError {
    /// Offset in the file.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// The fields on the way to the place, innermost first.
    pub path: Vec<String>,
}

/// The result of reading.
pub(super) type Wire<T> = Result<T, WireError>;

impl WireError {
    /// Notes that the error lies inside this field.
    pub(super) fn within(mut self, field: impl Into<String>) -> WireError {
        self.path.push(field.into());
        self
    }
}

/// A length-delimited field: its bytes and where in the file they stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice<'a> {
    /// The content.
    pub bytes: &'a [u8],
    /// Offset of the content in the file.
    pub offset: usize,
}

/// The payload of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(Slice<'a>),
    Fixed32(u32),
}

/// A field of a message, with where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// The number that the schema gives it.
    pub number: u32,
    payload: Payload<'a>,
    offset: usize,
}

/// A cursor over one message.
pub(super) struct Reader<'a, 'b> {
    data: &'a [u8],
    start: usize,
    pos: usize,
    depth: u32,
    items: &'b Cell<usize>,
}

/// A message of the schema: what to do with each of its fields.
pub(super) trait Message<'a>: Default {
    /// Takes one field; unknown ones are to be ignored.
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()>;

    /// Runs after the last field.
    fn finish(&mut self) {}
}

/// Decodes a whole file as a message.
pub(super) fn decode<'a, M: Message<'a>>(file: &'a [u8]) -> Wire<M> {
    let items = Cell::new(MAX_ITEMS);
    Reader { data: file, start: 0, pos: 0, depth: 0, items: &items }.message()
}

impl<'a> Reader<'a, '_> {
    fn error<T>(&self, message: impl Into<String>) -> Wire<T> {
        Err(WireError { offset: self.start + self.pos, message: message.into(), path: Vec::new() })
    }

    fn message<M: Message<'a>>(mut self) -> Wire<M> {
        let mut message = M::default();
        while let Some(field) = self.next()? {
            message.field(field, &self)?;
        }
        message.finish();
        Ok(message)
    }

    fn next(&mut self) -> Wire<Option<Field<'a>>> {
        if self.pos == self.data.len() {
            return Ok(None);
        }
        let offset = self.start + self.pos;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(n) if n != 0 => n,
            _ => return self.error(format!("field number {} does not exist", tag >> 3)),
        };
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Payload::Len(self.delimited()?),
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            kind => return self.error(format!("wire type {kind} is not used by ONNX")),
        };
        Ok(Some(Field { number, payload, offset }))
    }

    fn varint(&mut self) -> Wire<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.data.get(self.pos) else {
                return self.error("the file ends inside a number");
            };
            self.pos += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.error("a number of more than ten bytes")
    }

    fn array<const N: usize>(&mut self) -> Wire<[u8; N]> {
        match self.data.get(self.pos..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.pos += N;
                Ok(*chunk)
            }
            None => self.error("the file ends inside a number"),
        }
    }

    fn delimited(&mut self) -> Wire<Slice<'a>> {
        let len = self.varint()?;
        let rest = &self.data[self.pos..];
        match usize::try_from(len).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                let offset = self.start + self.pos;
                self.pos += bytes.len();
                Ok(Slice { bytes, offset })
            }
            None => self.error(format!("a field claims {len} bytes where {} are left", rest.len())),
        }
    }
}

impl<'a> Field<'a> {
    fn error<T>(&self, message: impl Into<String>) -> Wire<T> {
        Err(WireError { offset: self.offset, message: message.into(), path: Vec::new() })
    }

    fn wrong<T>(&self, wanted: &str) -> Wire<T> {
        self.error(format!("field {} has the wrong wire type: expected {wanted}", self.number))
    }

    /// A signed integer of 64 bits.
    pub(super) fn int(&self) -> Wire<i64> {
        match self.payload {
            Payload::Varint(v) => Ok(v as i64),
            _ => self.wrong("an integer"),
        }
    }

    /// An integer of 32 bits; the upper bits of a wider one are dropped, as protobuf says.
    pub(super) fn int32(&self) -> Wire<i32> {
        Ok(self.int()? as i32)
    }

    /// A float.
    pub(super) fn float(&self) -> Wire<f32> {
        match self.payload {
            Payload::Fixed32(v) => Ok(f32::from_bits(v)),
            _ => self.wrong("a float"),
        }
    }

    /// Bytes.
    pub(super) fn slice(&self) -> Wire<Slice<'a>> {
        match self.payload {
            Payload::Len(slice) => Ok(slice),
            _ => self.wrong("bytes"),
        }
    }

    /// A string.
    pub(super) fn text(&self) -> Wire<&'a str> {
        match std::str::from_utf8(self.slice()?.bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.error("a name is not UTF-8"),
        }
    }

    /// A nested message.
    pub(super) fn message<M: Message<'a>>(&self, parent: &Reader<'a, '_>) -> Wire<M> {
        let slice = self.slice()?;
        self.count(parent)?;
        if parent.depth == MAX_DEPTH {
            return self.error(format!("messages nest more than {MAX_DEPTH} deep"));
        }
        let depth = parent.depth + 1;
        Reader { data: slice.bytes, start: slice.offset, pos: 0, depth, items: parent.items }.message()
    }

    /// Counts one more message or string of the file.
    pub(super) fn count(&self, reader: &Reader<'a, '_>) -> Wire<()> {
        match reader.items.get().checked_sub(1) {
            Some(left) => {
                reader.items.set(left);
                Ok(())
            }
            None => self.error(format!("the file holds more than {MAX_ITEMS} messages")),
        }
    }

    /// Appends a repeated number: packed (`width` is 0 for varints) or a single one.
    pub(super) fn numbers(&self, width: usize, into: &mut Vec<u64>) -> Wire<()> {
        match self.payload {
            Payload::Varint(v) if width == 0 => into.push(v),
            Payload::Fixed32(v) if width == 4 => into.push(v.into()),
            Payload::Fixed64(v) if width == 8 => into.push(v),
            Payload::Len(slice) => return unpack(slice, width, into),
            _ => return self.wrong("numbers"),
        }
        Ok(())
    }
}

/// Appends the numbers of a packed field.
fn unpack(slice: Slice<'_>, width: usize, into: &mut Vec<u64>) -> Wire<()> {
    let items = Cell::new(0);
    let mut reader = Reader { data: slice.bytes, start: slice.offset, pos: 0, depth: 0, items: &items };
    into.reserve(slice.bytes.len() / width.max(1));
    while reader.pos < reader.data.len() {
        into.push(match width {
            4 => u32::from_le_bytes(reader.array()?).into(),
            8 => u64::from_le_bytes(reader.array()?),
            _ => reader.varint()?,
        });
    }
    Ok(())
}
