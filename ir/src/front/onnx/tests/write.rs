//! A protobuf writer, just enough to make models in tests.

/// A message that is being written.
#[derive(Clone, Default)]
pub struct Pb(pub Vec<u8>);

impl Pb {
    pub fn varint(mut self, mut n: u64) -> Pb {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    pub fn int(self, field: u64, n: i64) -> Pb {
        self.varint(field << 3).varint(n as u64)
    }

    pub fn float(self, field: u64, x: f32) -> Pb {
        let mut out = self.varint(field << 3 | 5);
        out.0.extend(x.to_le_bytes());
        out
    }

    pub fn bytes(self, field: u64, bytes: &[u8]) -> Pb {
        let mut out = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        out.0.extend(bytes);
        out
    }

    pub fn text(self, field: u64, text: &str) -> Pb {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Pb) -> Pb {
        self.bytes(field, &message.0)
    }

    pub fn messages(self, field: u64, messages: &[Pb]) -> Pb {
        messages.iter().fold(self, |out, m| out.message(field, m))
    }

    pub fn texts(self, field: u64, texts: &[&str]) -> Pb {
        texts.iter().fold(self, |out, t| out.text(field, t))
    }
}

/// A value's name and type; dimensions are sizes, or names if they are no numbers.
pub fn value(name: &str, dtype: i64, dims: &[&str]) -> Pb {
    let dim = |d: &&str| match d.parse() {
        Ok(n) => Pb::default().int(1, n),
        Err(_) if d.is_empty() => Pb::default(),
        Err(_) => Pb::default().text(2, d),
    };
    let dims: Vec<Pb> = dims.iter().map(dim).collect();
    let tensor = Pb::default().int(1, dtype).message(2, &Pb::default().messages(1, &dims));
    Pb::default().text(1, name).message(2, &Pb::default().message(1, &tensor))
}

/// A node with attributes.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attrs: &[Pb]) -> Pb {
    Pb::default().texts(1, inputs).texts(2, outputs).text(4, op).messages(5, attrs)
}

/// An integer attribute.
pub fn int(name: &str, n: i64) -> Pb {
    Pb::default().text(1, name).int(3, n).int(20, 2)
}

/// A list of integers as an attribute.
pub fn ints(name: &str, list: &[i64]) -> Pb {
    list.iter().fold(Pb::default().text(1, name), |out, &n| out.int(8, n)).int(20, 7)
}

/// A graph attribute.
pub fn subgraph(name: &str, graph: &Pb) -> Pb {
    Pb::default().text(1, name).message(6, graph).int(20, 5)
}

/// A tensor with raw data.
pub fn raw(name: &str, dtype: i64, dims: &[i64], data: &[u8]) -> Pb {
    dims.iter().fold(Pb::default(), |out, &d| out.int(1, d)).int(2, dtype).text(8, name).bytes(9, data)
}

/// A tensor of int64.
pub fn longs(name: &str, dims: &[i64], data: &[i64]) -> Pb {
    raw(name, 7, dims, &data.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
}

/// A tensor of floats.
pub fn floats(name: &str, dims: &[i64], data: &[f32]) -> Pb {
    raw(name, 1, dims, &data.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
}

/// A graph.
pub fn graph(nodes: &[Pb], initializers: &[Pb], inputs: &[Pb], outputs: &[Pb]) -> Pb {
    Pb::default()
        .messages(1, nodes)
        .text(2, "g")
        .messages(5, initializers)
        .messages(11, inputs)
        .messages(12, outputs)
}

/// A model of an opset.
pub fn model(opset: i64, graph: &Pb) -> Pb {
    Pb::default().int(1, 10).message(7, graph).message(8, &Pb::default().text(1, "").int(2, opset))
}

/// A float attribute.
pub fn float_attr(name: &str, x: f32) -> Pb {
    Pb::default().text(1, name).float(2, x).int(20, 1)
}
