//! The cores of the machine: which this process may use, and pinning a thread to one.

/// The cores that this process may run on.
#[cfg(target_os = "linux")]
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a set of cores is plain data, for which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as the size that is passed.
    let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if failed != 0 {
        return Vec::new();
    }
    // SAFETY: every number below the size of the set may be asked for.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Pins the calling thread to a core; without success it runs anywhere.
#[cfg(target_os = "linux")]
pub fn pin(core: usize) {
    // SAFETY: a set of cores is plain data, for which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core is one that the system named, so it is within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is as large as the size that is passed.
    let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}

/// Elsewhere threads are not pinned.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cores() -> Vec<usize> {
    Vec::new()
}

/// Elsewhere threads are not pinned.
#[cfg(not(target_os = "linux"))]
pub fn pin(_core: usize) {}
