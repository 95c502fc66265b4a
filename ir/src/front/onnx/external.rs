//! Tensor data in files beside the model.
//!
//! The file must lie in the model's folder, also after symbolic links are followed: a
//! model from anyone must not read `/etc/passwd` into its weights.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::proto::TensorProto;
use super::tensor::Files;
use crate::tensor::Tensor;
use crate::types::DType;

/// External files by their location.
pub(super) type Opened = RefCell<BTreeMap<String, Arc<Mmap>>>;

/// The tensor whose bytes are in another file, mapped.
pub(super) fn tensor(
    files: &Files,
    proto: &TensorProto<'_>,
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor, String> {
    let entry = |key: &str| proto.external.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| *v);
    let location = entry("location").ok_or("external data without a location")?;
    let offset = entry("offset").map_or(Ok(0), |v| number("offset", v))?;
    let map = open(files, location)?;
    let left = map.len().checked_sub(offset).ok_or_else(|| {
        format!("offset {offset} lies past the end of external file `{location}` ({} bytes)", map.len())
    })?;
    let wanted = shape
        .iter()
        .try_fold(dtype.bytes(), |n, &d| n.checked_mul(d))
        .ok_or_else(|| format!("shape {shape:?} is too large"))?;
    let length = entry("length").map_or(Ok(wanted), |v| number("length", v))?;
    if length > left {
        return Err(format!("external file `{location}` has {left} bytes at {offset}, {length} are needed"));
    }
    Tensor::from_mapped(dtype, shape, &map, offset..offset + length).map_err(|e| e.to_string())
}

fn number(key: &str, value: &str) -> Result<usize, String> {
    value.trim().parse().map_err(|_| format!("{key} `{value}` of external data is not a size"))
}

/// The file, mapped once however many tensors are in it.
fn open(files: &Files, location: &str) -> Result<Arc<Mmap>, String> {
    if let Some(map) = files.opened.borrow().get(location) {
        return Ok(map.clone());
    }
    let folder = files.folder.as_deref().ok_or("external data needs a model that is a file")?;
    let path = inside(folder, location)?;
    let file = File::open(&path).map_err(|e| format!("external file `{location}`: {e}"))?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(format!("external data `{location}` is not a file"));
    }
    // SAFETY: the mapping is read-only; changing a model's file while it is in use is
    // outside what the reader promises, as for the model itself.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| format!("external file `{location}`: {e}"))?;
    let map = Arc::new(map);
    files.opened.borrow_mut().insert(location.to_string(), map.clone());
    Ok(map)
}

/// The path of an external file, refused if it leaves the folder.
fn inside(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let stays = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !stays || location.contains('\\') {
        return Err(format!("external data `{location}` leaves the model's folder"));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let root = folder.canonicalize().map_err(|e| format!("the model's folder: {e}"))?;
    let path = root.join(relative).canonicalize().map_err(|e| format!("external file `{location}`: {e}"))?;
    if !path.starts_with(&root) {
        return Err(format!("external data `{location}` leaves the model's folder through a link"));
    }
    Ok(path)
}
