//! Fourier transforms and windows: products with matrices that are known at compile time.

use super::{Row, one};
use crate::dispatch;
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::nn::{DENSE, DenseAttrs};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::DType;

use std::f64::consts::PI;

/// How long a transform may be: its matrix has the square of that.
const MAX_LENGTH: usize = 1 << 13;

/// Signals.
pub(super) const ROWS: &[Row] = &[
    one!("BlackmanWindow", |cx| window(cx, &[0.42, -0.5, 0.08])).known(&[0]),
    one!("DFT", dft).known(&[1, 2]),
    one!("HammingWindow", |cx| window(cx, &[25.0 / 46.0, -21.0 / 46.0])).known(&[0]),
    one!("HannWindow", |cx| window(cx, &[0.5, -0.5])).known(&[0]),
    one!("MelWeightMatrix", mel_weights).known(&[0, 1, 2, 3, 4]),
    one!("STFT", stft).known(&[1, 3]),
];

impl Cx<'_, '_> {
    /// A constant of floats in a dtype.
    pub(in crate::front::onnx) fn floats_const(
        &mut self,
        shape: &[usize],
        data: &[f64],
        dtype: DType,
    ) -> Step {
        let tensor = dispatch!(dtype, T => {
            let data: Vec<T> = data
                .iter()
                .map(|&v| Scalar::from_f64(dtype, v).get::<T>().expect("made in this dtype"))
                .collect();
            Tensor::from_slice(shape, &data)
        });
        let tensor = tensor.or_else(|e| wrong(e.to_string()))?;
        Ok(self.constant(tensor))
    }

    /// The last dimension multiplied with the rows of a matrix.
    fn rows(&mut self, x: ExprId, matrix: ExprId) -> Step {
        self.call(&DENSE, &[x, matrix], DenseAttrs { units: None, out_dtype: None }.attrs())
    }

    /// The discrete Fourier transform of the last dimension but one, whose elements are real
    /// or pairs of real and imaginary part; the result has pairs.
    fn fourier(&mut self, x: ExprId, bins: usize, inverse: bool) -> Step {
        let rank = self.rank(x)?;
        let (n, parts, dtype) = (self.size(x, rank - 2)?, self.size(x, rank - 1)?, self.dtype(x)?);
        if n > MAX_LENGTH || n == 0 || !(1..=2).contains(&parts) {
            return refuse(format!("a Fourier transform of {n} elements in {parts} parts is not supported"));
        }
        let (sign, scale) = if inverse { (1.0, 1.0 / n as f64) } else { (-1.0, 1.0) };
        let angle = |i: usize| sign * 2.0 * PI * ((i / n * (i % n)) % n) as f64 / n as f64;
        let cos: Vec<f64> = (0..bins * n).map(|i| angle(i).cos() * scale).collect();
        let sin: Vec<f64> = (0..bins * n).map(|i| angle(i).sin() * scale).collect();
        let cos = self.floats_const(&[bins, n], &cos, dtype)?;
        let sin = self.floats_const(&[bins, n], &sin, dtype)?;
        let real = self.part(x, rank - 1, 0, 1)?;
        let real = self.squeeze(real, &[rank - 1])?;
        let (mut re, mut im) = (self.rows(real, cos)?, self.rows(real, sin)?);
        if parts == 2 {
            let imaginary = self.part(x, rank - 1, 1, 2)?;
            let imaginary = self.squeeze(imaginary, &[rank - 1])?;
            let (a, b) = (self.rows(imaginary, sin)?, self.rows(imaginary, cos)?);
            re = self.sub(re, a)?;
            im = self.add(im, b)?;
        }
        let re = self.expand_dims(re, rank - 1, 1)?;
        let im = self.expand_dims(im, rank - 1, 1)?;
        self.concat(&[re, im], rank - 1)
    }

    /// A dimension cut or filled with zeros to a length.
    fn of_length(&mut self, x: ExprId, axis: usize, length: usize) -> Step {
        let size = self.size(x, axis)?;
        if length <= size {
            return if length == size { Ok(x) } else { self.part(x, axis, 0, length) };
        }
        let mut shape = self.shape(x)?;
        shape[axis] = length - size;
        let zeros = self.filled(&shape, self.dtype(x)?, 0.0)?;
        self.concat(&[x, zeros], axis)
    }
}

fn dft(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let axis = match cx.opset {
        ..20 => cx.int("axis", 1)?,
        20.. => cx.const_ints_opt(2, "the axis")?.and_then(|a| a.first().copied()).unwrap_or(-2),
    };
    let axis = cx.axis(axis, rank)?;
    if rank < 2 || axis == rank - 1 {
        return wrong("the last dimension of DFT holds real and imaginary part");
    }
    let (inverse, onesided) = (cx.flag("inverse", false)?, cx.flag("onesided", false)?);
    let half = inverse && onesided;
    let length = match cx.const_ints_opt(1, "the length")?.and_then(|n| n.first().copied()) {
        Some(n) => usize::try_from(n).or_else(|_| wrong("the length of DFT is negative"))?,
        None if half => 2 * cx.size(x, axis)?.saturating_sub(1),
        None => cx.size(x, axis)?,
    };
    let x = if half { mirrored(cx, x, axis, length)? } else { cx.of_length(x, axis, length)? };
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 2);
    let y = cx.transpose(x, &order)?;
    let bins = if onesided && !half { length / 2 + 1 } else { length };
    let mut y = cx.fourier(y, bins, inverse)?;
    if half {
        y = cx.part(y, rank - 1, 0, 1)?;
    }
    cx.transpose(y, &order)
}

/// The whole spectrum of a real signal from its first half: the rest is the conjugate.
fn mirrored(cx: &mut Cx<'_, '_>, x: ExprId, axis: usize, length: usize) -> Step {
    let bins = length / 2 + 1;
    let x = cx.of_length(x, axis, bins)?;
    let places: Vec<usize> = (bins..length).map(|k| length - k).collect();
    if places.is_empty() {
        return cx.of_length(x, axis, length);
    }
    let rest = cx.take_known(x, &places, axis)?;
    let signs = cx.floats_const(&[2], &[1.0, -1.0], cx.dtype(x)?)?;
    let rest = cx.mul(rest, signs)?;
    cx.concat(&[x, rest], axis)
}

/// Transforms of stretches of a signal, each multiplied with a window.
fn stft(cx: &mut Cx<'_, '_>) -> Step {
    let mut x = cx.arg(0)?;
    let Some(&step) = cx.const_ints(1, "the step")?.first() else { return wrong("STFT needs a step") };
    if cx.rank(x)? == 2 {
        x = cx.expand_dims(x, 2, 1)?;
    }
    let window = cx.opt(2)?;
    let length = match cx.const_ints_opt(3, "the length of frames")?.and_then(|n| n.first().copied()) {
        Some(n) => usize::try_from(n).unwrap_or(0),
        None => match window {
            Some(w) => cx.size(w, 0)?,
            None => return wrong("STFT needs a window or a length of frames"),
        },
    };
    let size = cx.size(x, 1)?;
    if step < 1 || length == 0 || length > size {
        return wrong(format!("STFT of frames of {length} every {step} over {size} elements"));
    }
    let step = step as usize;
    let frames = (size - length) / step + 1;
    let places: Vec<usize> = (0..frames).flat_map(|f| (0..length).map(move |i| f * step + i)).collect();
    let y = cx.take_known(x, &places, 1)?;
    let parts = cx.size(x, 2)?;
    let y = cx.reshape_batch(y, &[frames, length, parts])?;
    let y = match window {
        Some(w) => {
            let w = cx.along(w, 2, 4)?;
            cx.mul(y, w)?
        }
        None => y,
    };
    let bins = if cx.flag("onesided", true)? { length / 2 + 1 } else { length };
    cx.fourier(y, bins, false)
}

/// A sum of cosines; the last sample of a periodic window is left out.
fn window(cx: &mut Cx<'_, '_>, terms: &[f64]) -> Step {
    let size = cx.const_ints(0, "the size")?.first().copied().unwrap_or(-1);
    let Ok(size) = usize::try_from(size) else { return wrong(format!("a window of {size} elements")) };
    if size > 1 << 24 {
        return wrong(format!("a window of {size} elements"));
    }
    let dtype = cx.dtype_attr("output_datatype")?.unwrap_or(DType::F32);
    let period = if cx.flag("periodic", true)? { size } else { size.saturating_sub(1) }.max(1) as f64;
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / period;
        terms.iter().enumerate().map(|(k, t)| t * (k as f64 * angle).cos()).sum()
    };
    let data: Vec<f64> = (0..size).map(at).collect();
    cx.floats_const(&[size], &data, dtype)
}

/// Triangles that are even on the mel scale, as a matrix of spectrogram bins by mel bins.
fn mel_weights(cx: &mut Cx<'_, '_>) -> Step {
    let number = |i: usize, what: &str| -> Step<f64> {
        Ok(cx.const_floats_opt(i, what)?.and_then(|v| v.first().copied()).unwrap_or(0.0))
    };
    let (mels, length) = (number(0, "the number of bins")?, number(1, "the length")?);
    let rate = number(2, "the sample rate")?;
    let (low, high) = (number(3, "the lower edge")?, number(4, "the upper edge")?);
    let dtype = cx.dtype_attr("output_datatype")?.unwrap_or(DType::F32);
    if !(1.0..65536.0).contains(&mels) || !(1.0..65536.0).contains(&length) || rate <= 0.0 {
        return wrong("MelWeightMatrix of an impossible size");
    }
    let (mels, bins) = (mels as usize, length as usize / 2 + 1);
    let to_mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let to_hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let (first, last) = (to_mel(low), to_mel(high));
    let step = (last - first) / (mels + 2) as f64;
    let edges: Vec<usize> = (0..mels + 2)
        .map(|i| ((length + 1.0) * to_hz(first + step * i as f64) / rate).floor() as usize)
        .collect();
    let mut data = vec![0.0; bins * mels];
    for m in 0..mels {
        let (lower, centre, upper) = (edges[m], edges[m + 1], edges[m + 2]);
        if lower == centre && centre < bins {
            data[centre * mels + m] = 1.0;
        }
        for f in lower..(centre + 1).min(bins) {
            if lower != centre {
                data[f * mels + m] = (f - lower) as f64 / (centre - lower) as f64;
            }
        }
        for f in centre..upper.min(bins) {
            if centre != upper {
                data[f * mels + m] = (upper - f) as f64 / (upper - centre) as f64;
            }
        }
    }
    cx.floats_const(&[bins, mels], &data, dtype)
}
