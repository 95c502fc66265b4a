//! What this machine is: features, caches, cores, as a target description.

use std::fs;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_passes::target::{CpuFeatures, CpuTarget};

/// This machine as a target.
pub fn host() -> CpuTarget {
    let default = CpuTarget::default();
    CpuTarget {
        features: features(),
        l1_bytes: cache_bytes(1).unwrap_or(default.l1_bytes),
        l2_bytes: cache_bytes(2).unwrap_or(default.l2_bytes),
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
    }
}

/// The extensions that this machine has.
#[cfg(target_arch = "x86_64")]
pub fn features() -> CpuFeatures {
    let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    let avx512 = avx2
        && std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512vl");
    CpuFeatures {
        avx2,
        avx512,
        avx512vnni: avx512 && std::is_x86_feature_detected!("avx512vnni"),
        amx_int8: avx512 && amx_int8(),
    }
}

/// The extensions that this machine has: none that micro-kernels know.
#[cfg(not(target_arch = "x86_64"))]
pub fn features() -> CpuFeatures {
    CpuFeatures::default()
}

/// AMX tiles and their int8 products, which the standard library does not detect: the processor
/// has them, the system keeps their state, and this process may use them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_int8() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::OnceLock;
    /// The parts of the extended state that are tiles and their layout.
    const TILE_STATE: u64 = 0b11 << 17;
    static PERMITTED: OnceLock<bool> = OnceLock::new();

    #[target_feature(enable = "xsave")]
    fn kept_state() -> u64 {
        // SAFETY: the caller has checked that the system enabled the instruction; register 0 exists then.
        unsafe { _xgetbv(0) }
    }
    *PERMITTED.get_or_init(|| {
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & (1 << 27) == 0 {
            return false;
        }
        let edx = __cpuid_count(7, 0).edx;
        // SAFETY: the system has enabled the extended state's instructions (OSXSAVE, just checked).
        let kept = unsafe { kept_state() } & TILE_STATE == TILE_STATE;
        edx & (1 << 24) != 0 && edx & (1 << 25) != 0 && kept && permit_tiles()
    })
}

/// Without Linux nobody is asked for permission, so there are no tiles.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_int8() -> bool {
    false
}

/// Asks the system for the use of tile data, for this process and the threads that it will have.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn permit_tiles() -> bool {
    /// `ARCH_REQ_XCOMP_PERM`, and the number of the tile data among the parts of the state.
    const REQUEST: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call changes nothing but what this process may use; it fails where it is not known.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

/// Size of the first core's data cache of a level, where the system tells.
fn cache_bytes(level: u32) -> Option<usize> {
    let root = "/sys/devices/system/cpu/cpu0/cache";
    for index in 0..8 {
        let read = |name: &str| fs::read_to_string(format!("{root}/index{index}/{name}")).ok();
        let (Some(found), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else {
            continue;
        };
        if found.trim() == level.to_string() && kind.trim() != "Instruction" {
            return parse_size(size.trim());
        }
    }
    None
}

/// A size as the system writes it: `32K`, `1M`.
fn parse_size(text: &str) -> Option<usize> {
    let (digits, scale) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(scale)
}

/// Turns features on and off: `-avx512,+avx2`. Turning one off turns off what builds on it; one
/// that the machine lacks cannot be turned on.
///
/// # Errors
/// If the text names an unknown feature or lacks a sign.
pub fn toggle(features: CpuFeatures, text: &str) -> Result<CpuFeatures, Diagnostic> {
    let machine = features;
    let mut features = features;
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (on, name) = match (item.strip_prefix('+'), item.strip_prefix('-')) {
            (Some(name), _) => (true, name),
            (None, Some(name)) => (false, name),
            (None, None) => return Err(unknown_feature(item)),
        };
        match name {
            "avx2" => features.avx2 = on && machine.avx2,
            "avx512" => features.avx512 = on && machine.avx512,
            "avx512vnni" => features.avx512vnni = on && machine.avx512vnni,
            "amx-int8" => features.amx_int8 = on && machine.amx_int8,
            _ => return Err(unknown_feature(item)),
        }
    }
    features.avx512 &= features.avx2;
    features.avx512vnni &= features.avx512;
    features.amx_int8 &= features.avx512;
    Ok(features)
}

fn unknown_feature(item: &str) -> Diagnostic {
    Diagnostic::error(Code::USAGE, format!("unknown target feature `{item}`"))
        .help("write a sign and one of avx2, avx512, avx512vnni, amx-int8: `--target-feature=-avx512`")
}

/// What there is to say about CUDA on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuda {
    /// The driver's library is not there.
    NoDriver,
    /// The driver is there but does not work.
    Broken(String),
    /// The driver and its devices: `NVIDIA H200 (cuda:sm_90)`.
    Devices(Vec<String>),
}

/// Looks for CUDA devices without ever failing.
pub fn cuda() -> Cuda {
    use cudarc::driver::{result, sys};
    // SAFETY: this only asks the loader whether the library exists.
    if !unsafe { sys::is_culib_present() } {
        return Cuda::NoDriver;
    }
    let devices = || -> Result<Vec<String>, cudarc::driver::DriverError> {
        result::init()?;
        (0..result::device::get_count()?).map(|i| describe_gpu(result::device::get(i)?)).collect()
    };
    match devices() {
        Ok(names) => Cuda::Devices(names),
        Err(e) => Cuda::Broken(e.to_string()),
    }
}

/// A GPU's name and the target that kernels for it have.
fn describe_gpu(device: cudarc::driver::sys::CUdevice) -> Result<String, cudarc::driver::DriverError> {
    use cudarc::driver::{result, sys::CUdevice_attribute as Attribute};
    // SAFETY: the device is one that the driver gave.
    let attribute = |of| unsafe { result::device::get_attribute(device, of) };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(format!("{} (cuda:sm_{major}{minor})", result::device::get_name(device)?))
}

/// The largest amount of memory that this process has used so far, in bytes, where the system tells.
pub fn peak_memory() -> Option<usize> {
    process_memory("VmHWM")
}

/// The memory that this process uses now, in bytes, where the system tells.
pub fn resident_memory() -> Option<usize> {
    process_memory("VmRSS")
}

/// A line of the process's status that is an amount of memory.
fn process_memory(key: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("32K"), Some(32 << 10));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        assert_eq!(parse_size("64"), Some(64));
        assert_eq!(parse_size("K"), None);
        assert_eq!(parse_size(""), None);
    }

    #[test]
    fn turning_a_feature_off_turns_off_what_builds_on_it() {
        let all = CpuFeatures { avx2: true, avx512: true, avx512vnni: true, amx_int8: true };
        assert_eq!(toggle(all, "-avx2"), Ok(CpuFeatures::default()));
        assert_eq!(
            toggle(all, "-avx512, +avx2").map(|f| (f.avx2, f.avx512, f.avx512vnni)),
            Ok((true, false, false))
        );
        assert_eq!(toggle(CpuFeatures::default(), "+avx512"), Ok(CpuFeatures::default()));
        assert!(toggle(all, "avx2").is_err());
        assert!(toggle(all, "-sse9").is_err());
    }

    #[test]
    fn looking_at_the_machine_never_fails() {
        let host = host();
        assert!(host.threads >= 1 && host.l1_bytes > 0);
        let _ = cuda();
    }
}
