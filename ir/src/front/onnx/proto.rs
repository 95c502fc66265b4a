//! The messages of `onnx.proto` that an importer needs, borrowed from the file.
//!
//! Field numbers are those of the schema of IR version 13. Fields that say nothing about
//! a program's meaning (doc strings, training information, sharding) are skipped.

use super::wire::{Field, Message, Reader, Slice, Wire};

/// Decodes a nested message into a list, naming the element in errors.
fn push<'a, M: Message<'a>>(
    list: &mut Vec<M>,
    name: &str,
    field: Field<'a>,
    reader: &Reader<'a, '_>,
) -> Wire<()> {
    let item = field.message(reader).map_err(|e| e.within(format!("{name}[{}]", list.len())))?;
    list.push(item);
    Ok(())
}

/// Decodes a repeated string.
fn push_text<'a>(list: &mut Vec<&'a str>, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
    field.count(reader)?;
    list.push(field.text()?);
    Ok(())
}

/// A whole model.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    /// The version of the file format.
    pub ir_version: i64,
    /// Which opset of which domain the graph speaks.
    pub opset_import: Vec<OpsetId<'a>>,
    /// The program that wrote the file.
    pub producer: &'a str,
    /// The main graph.
    pub graph: Option<Graph<'a>>,
    /// Functions that nodes may call.
    pub functions: Vec<Function<'a>>,
}

impl<'a> Message<'a> for Model<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.ir_version = field.int()?,
            2 => self.producer = field.text()?,
            7 => self.graph = Some(field.message(reader).map_err(|e| e.within("graph"))?),
            8 => push(&mut self.opset_import, "opset_import", field, reader)?,
            25 => push(&mut self.functions, "functions", field, reader)?,
            _ => {}
        }
        Ok(())
    }
}

/// A domain and its version.
#[derive(Debug, Default)]
pub(super) struct OpsetId<'a> {
    /// Empty or `ai.onnx` is the standard domain.
    pub domain: &'a str,
    /// The opset.
    pub version: i64,
}

impl<'a> Message<'a> for OpsetId<'a> {
    fn field(&mut self, field: Field<'a>, _: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.domain = field.text()?,
            2 => self.version = field.int()?,
            _ => {}
        }
        Ok(())
    }
}

/// A graph: the model's main one, or one that a control-flow node holds.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    /// Its name.
    pub name: &'a str,
    /// The nodes, normally in an order in which they can run.
    pub nodes: Vec<Node<'a>>,
    /// Named constants.
    pub initializers: Vec<TensorProto<'a>>,
    /// Whether there are sparse constants.
    pub sparse_initializers: usize,
    /// Inputs; initializers may be listed too.
    pub inputs: Vec<ValueInfo<'a>>,
    /// Outputs.
    pub outputs: Vec<ValueInfo<'a>>,
}

impl<'a> Message<'a> for Graph<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => push(&mut self.nodes, "node", field, reader)?,
            2 => self.name = field.text()?,
            5 => push(&mut self.initializers, "initializer", field, reader)?,
            11 => push(&mut self.inputs, "input", field, reader)?,
            12 => push(&mut self.outputs, "output", field, reader)?,
            15 => self.sparse_initializers += 1,
            _ => {}
        }
        Ok(())
    }
}

/// A node: a call of an operator or a function.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    /// Names of values; an empty one is an optional input left out.
    pub inputs: Vec<&'a str>,
    /// Names of values; an empty one is an output that nobody wants.
    pub outputs: Vec<&'a str>,
    /// A name for people; often empty.
    pub name: &'a str,
    /// The operator.
    pub op_type: &'a str,
    /// Where the operator is defined.
    pub domain: &'a str,
    /// Which of the functions of that name.
    pub overload: &'a str,
    /// Attributes.
    pub attrs: Vec<Attribute<'a>>,
}

impl<'a> Message<'a> for Node<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => push_text(&mut self.inputs, field, reader)?,
            2 => push_text(&mut self.outputs, field, reader)?,
            3 => self.name = field.text()?,
            4 => self.op_type = field.text()?,
            5 => push(&mut self.attrs, "attribute", field, reader)?,
            7 => self.domain = field.text()?,
            8 => self.overload = field.text()?,
            _ => {}
        }
        Ok(())
    }
}

/// What an attribute holds.
#[derive(Debug, Default)]
pub(super) enum AttrData<'a> {
    /// Nothing was given.
    #[default]
    Empty,
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string.
    Str(&'a [u8]),
    /// A tensor.
    Tensor(Box<TensorProto<'a>>),
    /// A graph.
    Graph(Box<Graph<'a>>),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Strings.
    Strs(Vec<&'a [u8]>),
    /// A list of tensors, a list of graphs, a sparse tensor or a type.
    Other(&'static str),
}

/// An attribute of a node.
#[derive(Debug, Default)]
pub(super) struct Attribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it holds.
    pub data: AttrData<'a>,
    /// Inside a function: the attribute of the call that gives the value.
    pub reference: &'a str,
    /// The declared kind, 0 if the file is older than the field.
    kind: i32,
}

impl<'a> Message<'a> for Attribute<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.name = field.text()?,
            2 => self.data = AttrData::Float(field.float()?),
            3 => self.data = AttrData::Int(field.int()?),
            4 => self.data = AttrData::Str(field.slice()?.bytes),
            5 => self.data = AttrData::Tensor(Box::new(field.message(reader).map_err(|e| e.within("t"))?)),
            6 => self.data = AttrData::Graph(Box::new(field.message(reader).map_err(|e| e.within("g"))?)),
            7 => self.push_floats(field)?,
            8 => self.push_ints(field)?,
            9 => self.push_string(field, reader)?,
            10 => self.data = AttrData::Other("a list of tensors"),
            11 => self.data = AttrData::Other("a list of graphs"),
            14 | 15 => self.data = AttrData::Other("a type"),
            22 | 23 => self.data = AttrData::Other("a sparse tensor"),
            20 => self.kind = field.int32()?,
            21 => self.reference = field.text()?,
            _ => {}
        }
        Ok(())
    }

    /// A writer may leave out what equals the default of its kind.
    fn finish(&mut self) {
        if matches!(self.data, AttrData::Empty) {
            self.data = match self.kind {
                1 => AttrData::Float(0.0),
                2 => AttrData::Int(0),
                3 => AttrData::Str(b""),
                6 => AttrData::Floats(Vec::new()),
                7 => AttrData::Ints(Vec::new()),
                8 => AttrData::Strs(Vec::new()),
                _ => AttrData::Empty,
            };
        }
    }
}

impl<'a> Attribute<'a> {
    fn push_floats(&mut self, field: Field<'a>) -> Wire<()> {
        let mut bits = Vec::new();
        field.numbers(4, &mut bits)?;
        if !matches!(self.data, AttrData::Floats(_)) {
            self.data = AttrData::Floats(Vec::new());
        }
        if let AttrData::Floats(list) = &mut self.data {
            list.extend(bits.into_iter().map(|b| f32::from_bits(b as u32)));
        }
        Ok(())
    }

    fn push_ints(&mut self, field: Field<'a>) -> Wire<()> {
        let mut bits = Vec::new();
        field.numbers(0, &mut bits)?;
        if !matches!(self.data, AttrData::Ints(_)) {
            self.data = AttrData::Ints(Vec::new());
        }
        if let AttrData::Ints(list) = &mut self.data {
            list.extend(bits.into_iter().map(|b| b as i64));
        }
        Ok(())
    }

    fn push_string(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        field.count(reader)?;
        if !matches!(self.data, AttrData::Strs(_)) {
            self.data = AttrData::Strs(Vec::new());
        }
        if let AttrData::Strs(list) = &mut self.data {
            list.push(field.slice()?.bytes);
        }
        Ok(())
    }
}

/// A tensor as the file stores it.
#[derive(Debug, Default)]
pub(super) struct TensorProto<'a> {
    /// Sizes of the dimensions, unchecked.
    pub dims: Vec<u64>,
    /// The `TensorProto.DataType`.
    pub data_type: i32,
    /// Its name.
    pub name: &'a str,
    /// Little-endian bytes, if it is stored so.
    pub raw: Option<Slice<'a>>,
    /// Typed fields that hold the elements, packed, one for each field that occurs.
    pub typed: Vec<TypedData<'a>>,
    /// Strings, which only need counting.
    pub strings: usize,
    /// Where the bytes are, if they are in another file: key, value.
    pub external: Vec<(&'a str, &'a str)>,
    /// True if the data is in another file.
    pub is_external: bool,
    /// True if this is a part of a larger tensor, which no known writer makes.
    pub is_segment: bool,
}

/// Elements in a typed field.
#[derive(Debug)]
pub(super) struct TypedData<'a> {
    /// The field's number: 4 float, 5 int32, 7 int64, 10 double, 11 uint64.
    pub number: u32,
    /// The field; its numbers are read once the shape is known.
    pub field: Field<'a>,
}

impl TypedData<'_> {
    /// Bytes of one element of a typed field on the wire; 0 for a varint.
    pub(super) fn width(&self) -> usize {
        match self.number {
            4 => 4,
            10 => 8,
            _ => 0,
        }
    }
}

impl<'a> Message<'a> for TensorProto<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => field.numbers(0, &mut self.dims)?,
            2 => self.data_type = field.int32()?,
            3 => self.is_segment = true,
            4 | 5 | 7 | 10 | 11 => {
                field.count(reader)?;
                self.typed.push(TypedData { number: field.number, field });
            }
            6 => self.strings += 1,
            8 => self.name = field.text()?,
            9 => self.raw = Some(field.slice()?),
            13 => {
                let entry: StringEntry<'a> = field.message(reader)?;
                self.external.push((entry.key, entry.value));
            }
            14 => self.is_external = field.int()? == 1,
            _ => {}
        }
        Ok(())
    }
}

/// A key with a value.
#[derive(Debug, Default)]
struct StringEntry<'a> {
    key: &'a str,
    value: &'a str,
}

impl<'a> Message<'a> for StringEntry<'a> {
    fn field(&mut self, field: Field<'a>, _: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.key = field.text()?,
            2 => self.value = field.text()?,
            _ => {}
        }
        Ok(())
    }
}

/// A value's name and type.
#[derive(Debug, Default)]
pub(super) struct ValueInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeProto<'a>,
}

impl<'a> Message<'a> for ValueInfo<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.name = field.text()?,
            2 => self.ty = field.message(reader).map_err(|e| e.within("type"))?,
            _ => {}
        }
        Ok(())
    }
}

/// A type.
#[derive(Debug, Default)]
pub(super) enum TypeProto<'a> {
    /// None was given.
    #[default]
    Missing,
    /// A dense tensor.
    Tensor(TensorTypeProto<'a>),
    /// A sequence of tensors.
    Sequence,
    /// An optional value of a type.
    Optional(Box<TypeProto<'a>>),
    /// A kind that is not supported.
    Other(&'static str),
}

impl<'a> Message<'a> for TypeProto<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => *self = TypeProto::Tensor(field.message(reader)?),
            4 => *self = TypeProto::Sequence,
            5 => *self = TypeProto::Other("a map"),
            8 => *self = TypeProto::Other("a sparse tensor"),
            9 => {
                let inner: OptionalType<'a> = field.message(reader)?;
                *self = TypeProto::Optional(Box::new(inner.0));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The element type of an optional.
#[derive(Debug, Default)]
struct OptionalType<'a>(TypeProto<'a>);

impl<'a> Message<'a> for OptionalType<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        if field.number == 1 {
            self.0 = field.message(reader)?;
        }
        Ok(())
    }
}

/// Element type and shape of a tensor.
#[derive(Debug, Default)]
pub(super) struct TensorTypeProto<'a> {
    /// The `TensorProto.DataType`.
    pub elem_type: i32,
    /// The dimensions, if the rank is known.
    pub shape: Option<ShapeProto<'a>>,
}

impl<'a> Message<'a> for TensorTypeProto<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.elem_type = field.int32()?,
            2 => self.shape = Some(field.message(reader).map_err(|e| e.within("shape"))?),
            _ => {}
        }
        Ok(())
    }
}

/// Dimensions.
#[derive(Debug, Default)]
pub(super) struct ShapeProto<'a> {
    /// One each.
    pub dims: Vec<DimProto<'a>>,
}

impl<'a> Message<'a> for ShapeProto<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        if field.number == 1 {
            push(&mut self.dims, "dim", field, reader)?;
        }
        Ok(())
    }
}

/// One dimension.
#[derive(Debug, Default)]
pub(super) enum DimProto<'a> {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A size, unchecked.
    Value(i64),
    /// A name.
    Param(&'a str),
}

impl<'a> Message<'a> for DimProto<'a> {
    fn field(&mut self, field: Field<'a>, _: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => *self = DimProto::Value(field.int()?),
            2 => *self = DimProto::Param(field.text()?),
            _ => {}
        }
        Ok(())
    }
}

/// A function of the model: a node that names it stands for its body.
#[derive(Debug, Default)]
pub(super) struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its domain.
    pub domain: &'a str,
    /// Which of the functions of that name.
    pub overload: &'a str,
    /// Names of parameters.
    pub inputs: Vec<&'a str>,
    /// Names of results.
    pub outputs: Vec<&'a str>,
    /// Attributes with defaults.
    pub defaults: Vec<Attribute<'a>>,
    /// The body.
    pub nodes: Vec<Node<'a>>,
    /// The opsets that the body speaks.
    pub opset_import: Vec<OpsetId<'a>>,
}

impl<'a> Message<'a> for Function<'a> {
    fn field(&mut self, field: Field<'a>, reader: &Reader<'a, '_>) -> Wire<()> {
        match field.number {
            1 => self.name = field.text()?,
            4 => push_text(&mut self.inputs, field, reader)?,
            5 => push_text(&mut self.outputs, field, reader)?,
            7 => push(&mut self.nodes, "node", field, reader)?,
            9 => push(&mut self.opset_import, "opset_import", field, reader)?,
            10 => self.domain = field.text()?,
            11 => push(&mut self.defaults, "attribute_proto", field, reader)?,
            13 => self.overload = field.text()?,
            _ => {}
        }
        Ok(())
    }
}
