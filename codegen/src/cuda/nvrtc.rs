//! Cubins and PTX by NVRTC, which is looked for when it is needed and never linked.
//!
//! It is found in the file or folder that `FERMATA_NVRTC` names, on the library path, where
//! `pip install nvidia-cuda-nvrtc` puts it in an environment whose programs are on `PATH`, or
//! in `/usr/local/cuda`. No GPU and no driver is needed.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::nvrtc::{result, sys};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_passes::target::CudaTarget;
use rayon::prelude::*;

use super::CudaKernel;

/// The oldest major version that knows every target.
const OLDEST: i32 = 12;

/// What to install where there is no NVRTC.
pub const INSTALL: &str =
    "`pip install nvidia-cuda-nvrtc`, or name its library or folder in the variable FERMATA_NVRTC";

/// An NVRTC that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvrtc {
    /// Major and minor version.
    pub version: (i32, i32),
    /// Where it is, if it was not simply on the library path.
    pub path: Option<PathBuf>,
}

/// What NVRTC makes of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Machine code of one architecture.
    pub cubin: Vec<u8>,
    /// The assembly that it was made from.
    pub ptx: String,
    /// What the assembler tells: registers and spills of each kernel.
    pub log: String,
}

/// What was found; looking happens once.
static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();

/// Looks for NVRTC; why it is not there or cannot be used, otherwise.
pub fn probe() -> &'static Result<Nvrtc, String> {
    FOUND.get_or_init(|| preload().and_then(check))
}

/// As [`probe`], but looks in this folder first, if nobody has looked before.
pub fn probe_in(dir: &Path) -> &'static Result<Nvrtc, String> {
    FOUND.get_or_init(|| load_from(dir).map_or_else(preload, |path| Ok(Some(path))).and_then(check))
}

/// Whether the library that is known by its name works.
fn check(path: Option<PathBuf>) -> Result<Nvrtc, String> {
    // SAFETY: this only asks the loader whether the library exists.
    if !unsafe { sys::is_culib_present() } {
        return Err("NVRTC was not found".into());
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, every version has this function, and both places are ours.
    let version = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    version.result().map_err(|e| format!("NVRTC does not work: {e:?}"))?;
    if major < OLDEST {
        return Err(format!("NVRTC {major}.{minor} is too old; version {OLDEST} or later is needed"));
    }
    Ok(Nvrtc { version: (major, minor), path })
}

/// Loads the libraries of the first folder that has them, so that they are known by their names. What
/// the user names is all that is tried then.
fn preload() -> Result<Option<PathBuf>, String> {
    if let Some(named) = std::env::var_os("FERMATA_NVRTC").map(PathBuf::from) {
        let dir = if named.is_dir() { &*named } else { named.parent().unwrap_or(Path::new(".")) };
        let missing = || format!("NVRTC was not found in `{}`, which FERMATA_NVRTC names", dir.display());
        return load_from(dir).map(Some).ok_or_else(missing);
    }
    // SAFETY: this only asks the loader whether the library exists.
    if unsafe { sys::is_culib_present() } {
        return Ok(None);
    }
    Ok(candidates().iter().find_map(|dir| load_from(dir)))
}

/// Folders where NVRTC may be.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for bin in std::env::split_paths(&path) {
        let Some(lib) = bin.parent().map(|prefix| prefix.join("lib")) else { continue };
        for python in entries(&lib, "python3") {
            for package in entries(&python.join("site-packages/nvidia"), "cu") {
                folders.push(package.join("lib"));
            }
        }
    }
    folders.push("/usr/local/cuda/lib64".into());
    folders
}

/// What a folder has whose name starts like this, in order.
fn entries(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

/// Loads NVRTC and the part of it that it would not find by itself.
#[cfg(unix)]
fn load_from(dir: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let open = |path: &PathBuf| {
        let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // SAFETY: the name ends with 0, and loading NVIDIA's libraries runs nothing but their own set-up.
        !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null()
    };
    let builtins = entries(dir, "libnvrtc-builtins.so");
    let libraries = entries(dir, "libnvrtc.so");
    builtins.iter().for_each(|p| {
        open(p);
    });
    libraries.into_iter().find(open)
}

/// Elsewhere only the library path is searched.
#[cfg(not(unix))]
fn load_from(_: &Path) -> Option<PathBuf> {
    None
}

/// Compiles a kernel's source for a target.
///
/// # Errors
/// If there is no NVRTC, or it refuses the source, which is a mistake of the compiler.
pub fn compile(kernel: &CudaKernel, target: CudaTarget) -> Result<Binary, Diagnostic> {
    probe().as_ref().map_err(|why| {
        Diagnostic::error(Code::CODEGEN, format!("there is no cubin or PTX for {target}: {why}"))
            .help(INSTALL)
            .note("CUDA C needs nothing: --emit=cuda")
    })?;
    knows(&architectures(), target)?;
    let refused = |what: &str, log: String| {
        Diagnostic::error(Code::CODEGEN, format!("NVRTC {what} kernel `{}` for {target}", kernel.name))
            .note(log)
    };
    let text = |s: &str| CString::new(s).map_err(|_| refused("cannot read", "there is a NUL in it".into()));
    let (source, name) = (text(&kernel.source)?, text(&format!("{}.cu", kernel.name))?);
    let program = Program::new(&source, &name).map_err(|e| refused("cannot take", e))?;
    let options = [format!("--gpu-architecture={}", target.arch()), "--ptxas-options=-v".into()];
    match program.compile(&options) {
        Ok(()) => program.binary().map_err(|e| refused("gives no code of", e)),
        Err(e) => Err(refused("refuses", format!("{e}\n{}", program.log()))),
    }
}

/// The compute capabilities that this NVRTC compiles for; empty if it does not tell.
fn architectures() -> Vec<u32> {
    let mut count = 0;
    // SAFETY: the library is there, and the place for the count is ours.
    if unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().is_err() {
        return Vec::new();
    }
    let mut found = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: as above, and there is room for as many as were announced.
    match unsafe { sys::nvrtcGetSupportedArchs(found.as_mut_ptr()) }.result() {
        Ok(()) => found.into_iter().filter_map(|sm| u32::try_from(sm).ok()).collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether an NVRTC that compiles for these compute capabilities does for a target.
fn knows(architectures: &[u32], target: CudaTarget) -> Result<(), Diagnostic> {
    if architectures.is_empty() || architectures.contains(&target.sm) {
        return Ok(());
    }
    let known: Vec<String> = architectures.iter().map(|sm| format!("sm_{sm}")).collect();
    let message =
        format!("there is no cubin or PTX for {target}: this NVRTC compiles for {}", known.join(", "));
    Err(Diagnostic::error(Code::CODEGEN, message)
        .help("another version may; `fermata doctor` says which was found")
        .note("CUDA C needs nothing: --emit=cuda"))
}

/// Compiles many kernels in parallel; the first that fails, in order, decides the error.
///
/// # Errors
/// As [`compile`].
pub fn compile_all(kernels: &[CudaKernel], target: CudaTarget) -> Result<Vec<Binary>, Diagnostic> {
    let results: Vec<_> = kernels.par_iter().map(|kernel| compile(kernel, target)).collect();
    results.into_iter().collect()
}

/// A program of NVRTC, destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &CStr, name: &CStr) -> Result<Program, String> {
        result::create_program(source, Some(name)).map(Program).map_err(|e| e.to_string())
    }

    fn compile(&self, options: &[String]) -> Result<(), String> {
        // SAFETY: the program is alive, and is compiled once.
        unsafe { result::compile_program(self.0, options) }.map_err(|e| e.to_string())
    }

    fn binary(&self) -> Result<Binary, String> {
        // SAFETY: the program is alive and was compiled.
        let ptx = unsafe { result::get_ptx(self.0) }.map_err(|e| e.to_string())?;
        let mut size = 0;
        // SAFETY: as above, and the place for the size is ours.
        let known = unsafe { sys::nvrtcGetCUBINSize(self.0, &mut size) };
        known.result().map_err(|e| e.to_string())?;
        let mut cubin = vec![0u8; size];
        // SAFETY: as above, and there is room for as many bytes as were announced.
        let copied = unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast::<c_char>()) };
        copied.result().map_err(|e| e.to_string())?;
        Ok(Binary { cubin, ptx: lossy(&ptx), log: self.log() })
    }

    fn log(&self) -> String {
        // SAFETY: the program is alive.
        unsafe { result::get_program_log(self.0) }.map(|log| lossy(&log)).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is alive and nobody uses it after this.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Text up to its end.
fn lossy(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_this_nvrtc_does_not_know_is_named() {
        let target = CudaTarget { sm: 75 };
        assert!(knows(&[75, 80], target).is_ok() && knows(&[], target).is_ok());
        let error = knows(&[80, 90], target).expect_err("too new an NVRTC");
        assert_eq!(
            error.message,
            "there is no cubin or PTX for cuda:sm_75: this NVRTC compiles for sm_80, sm_90"
        );
    }
}
