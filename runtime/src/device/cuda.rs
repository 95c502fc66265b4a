//! An NVIDIA GPU through the driver's library, which is looked for and never linked.
//!
//! A launch has as many blocks as are resident, which go through the loop of the protocol
//! ([`fermata_ir::tir::protocol`]): the queue's word and the launch's counters lie in device
//! memory, and the word is written on a stream of its own, past what is queued on the other.
//!
//! *This has not run yet*: where it was written there was no GPU. What it launches is compiled for
//! every target in the tests, and evaluated with the semantics of CUDA.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg,
    sys,
};
use cudarc::nvrtc::Ptx;
use fermata_codegen::cuda::CudaKernel;
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tir::protocol::{DONE, Word};

use crate::detect::{self, Cuda};

/// What a device says when something does not work.
fn failed(what: &str, e: DriverError) -> Diagnostic {
    Diagnostic::error(Code::RUN, format!("{what}: {e}"))
}

/// The devices, if there is one; why not, otherwise.
///
/// # Errors
/// If there is no driver, it does not work, or it has no device of this number.
pub fn require(found: &Cuda, ordinal: usize) -> Result<(), Diagnostic> {
    let missing = match found {
        Cuda::NoDriver => "there is no NVIDIA driver on this machine".to_string(),
        Cuda::Broken(why) => format!("the NVIDIA driver does not work: {why}"),
        Cuda::Devices(names) if names.is_empty() => "the NVIDIA driver finds no GPU".to_string(),
        Cuda::Devices(names) if ordinal < names.len() => return Ok(()),
        Cuda::Devices(names) => format!("there is no device cuda:{ordinal}, only {}", names.len()),
    };
    Err(Diagnostic::error(Code::RUN, missing)
        .help("`--device tir` runs the same kernels without a GPU; `fermata doctor` says what was found"))
}

/// A GPU with a queue of launches.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    control: Control,
    word: CudaSlice<u64>,
    processors: u32,
}

/// The control word of a queue on a GPU, to preempt what it runs and to let it go on.
#[derive(Clone)]
pub struct Control {
    stream: Arc<CudaStream>,
    address: sys::CUdeviceptr,
    /// The word as it was last written.
    written: Arc<AtomicU64>,
}

impl Control {
    /// The word as it was last written.
    pub fn word(&self) -> Word {
        Word::unpack(self.written.load(Ordering::Acquire))
    }

    /// Lets blocks in slots below `quota` run, under a new epoch. Returns once the GPU sees it.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn set_quota(&self, quota: u32) -> Result<(), Diagnostic> {
        let next = Word { epoch: self.word().epoch.wrapping_add(1), quota };
        self.stream.context().bind_to_thread().map_err(|e| failed("the GPU's context is lost", e))?;
        // SAFETY: the address is that of a word in device memory, which lives as long as its `Gpu`;
        // whoever drops that has no control left to use.
        let written =
            unsafe { sys::cuStreamWriteValue64_v2(self.stream.cu_stream(), self.address, next.pack(), 0) };
        let done = written.result().and_then(|()| self.stream.synchronize());
        done.map_err(|e| failed("the control word cannot be written", e))?;
        self.written.store(next.pack(), Ordering::Release);
        Ok(())
    }
}

/// A kernel that is loaded.
pub struct Loaded {
    name: String,
    function: CudaFunction,
    threads: [u32; 3],
    tiles: u64,
    /// Blocks that are resident at a time.
    resident: u32,
}

impl Gpu {
    /// A device by its number.
    ///
    /// # Errors
    /// If there is no driver, no such device, or the device gives no context.
    pub fn open(ordinal: usize) -> Result<Gpu, Diagnostic> {
        require(&detect::cuda(), ordinal)?;
        let build = || -> Result<Gpu, DriverError> {
            let context = CudaContext::new(ordinal)?;
            let (stream, control) = (context.new_stream()?, context.new_stream()?);
            let processors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
            let processors = context.attribute(processors)?.max(1) as u32;
            let first = Word { epoch: 1, quota: u32::MAX }.pack();
            let word = stream.clone_htod(&[first])?;
            stream.synchronize()?;
            let address = word.device_ptr(&stream).0;
            let control = Control { stream: control, address, written: Arc::new(AtomicU64::new(first)) };
            Ok(Gpu { context, stream, control, word, processors })
        };
        build().map_err(|e| failed(&format!("the device cuda:{ordinal} cannot be used"), e))
    }

    /// The compute capability: 90 for 9.0.
    ///
    /// # Errors
    /// If the driver does not tell.
    pub fn capability(&self) -> Result<u32, Diagnostic> {
        let (major, minor) =
            self.context.compute_capability().map_err(|e| failed("the GPU does not tell what it is", e))?;
        Ok((major * 10 + minor) as u32)
    }

    /// The control word.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Loads a kernel from its machine code.
    ///
    /// # Errors
    /// If the machine code is not for this device, or has no such kernel.
    pub fn load(&self, kernel: &CudaKernel, cubin: &[u8]) -> Result<Loaded, Diagnostic> {
        let name = kernel.name.clone();
        let build = || -> Result<Loaded, DriverError> {
            let module = self.context.load_module(Ptx::from_binary(cubin.to_vec()))?;
            let function = module.load_function(&format!("{name}_preemptible"))?;
            let threads = kernel.threads.iter().product();
            let blocks = function.occupancy_max_active_blocks_per_multiprocessor(threads, 0, None)?;
            let resident = blocks.max(1) * self.processors;
            Ok(Loaded {
                name: name.clone(),
                function,
                threads: kernel.threads,
                tiles: kernel.tiles,
                resident,
            })
        };
        build().map_err(|e| failed(&format!("kernel `{name}` cannot be loaded"), e))
    }

    /// Memory with these bytes in it.
    ///
    /// # Errors
    /// If there is not enough memory: the message says how much was asked for.
    pub fn upload(&self, bytes: &[u8]) -> Result<CudaSlice<u8>, Diagnostic> {
        let copied = self.stream.clone_htod(bytes);
        copied.map_err(|e| failed(&format!("{} bytes cannot be copied to the GPU", bytes.len()), e))
    }

    /// Memory of a size, zeroed; a byte if the size is 0, so that it has an address.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn reserve(&self, bytes: usize) -> Result<CudaSlice<u8>, Diagnostic> {
        let memory = self.stream.alloc_zeros(bytes.max(1));
        memory.map_err(|e| failed(&format!("the GPU has no {bytes} bytes of memory left"), e))
    }

    /// Copies memory back.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn download(&self, memory: &CudaSlice<u8>) -> Result<Vec<u8>, Diagnostic> {
        let copied =
            self.stream.clone_dtoh(memory).and_then(|bytes| self.stream.synchronize().map(|()| bytes));
        copied.map_err(|e| failed("a result cannot be copied from the GPU", e))
    }

    /// The address of memory.
    pub fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    /// Copies within the device.
    ///
    /// # Safety
    /// Both addresses have so many bytes, and do not overlap.
    ///
    /// # Errors
    /// If the driver refuses.
    pub unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Diagnostic> {
        // SAFETY: the contract of this function.
        let copied =
            unsafe { cudarc::driver::result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) };
        copied.map_err(|e| failed("a buffer cannot be copied on the GPU", e))
    }

    /// Runs all tiles of a kernel on buffers by their addresses, through as many preemptions as come;
    /// returns when the last tile has ended.
    ///
    /// # Safety
    /// The buffers are those that the kernel was compiled for, and nothing else uses what it writes.
    ///
    /// # Errors
    /// If the launch fails, or a block of it does; the message names the kernel.
    pub unsafe fn launch(&self, kernel: &Loaded, buffers: &[u64]) -> Result<(), Diagnostic> {
        if kernel.tiles == 0 {
            return Ok(());
        }
        let counters = self.stream.clone_htod(&[0u64; 2]);
        let counters =
            counters.map_err(|e| failed(&format!("kernel `{}` gets no counters", kernel.name), e))?;
        loop {
            let word = self.control.word();
            if word.quota == 0 {
                std::thread::yield_now();
                continue;
            }
            // SAFETY: the contract of this function.
            let done = unsafe { self.launch_once(kernel, buffers, word.epoch, &counters) };
            let done = done.map_err(|e| failed(&format!("kernel `{}` failed", kernel.name), e))?;
            if done == kernel.tiles {
                return Ok(());
            }
        }
    }

    /// One launch, until all blocks have left; gives how many tiles have ended by then.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    unsafe fn launch_once(
        &self,
        kernel: &Loaded,
        buffers: &[u64],
        epoch: u32,
        counters: &CudaSlice<u64>,
    ) -> Result<u64, DriverError> {
        let blocks = u32::try_from(kernel.tiles).unwrap_or(u32::MAX).min(kernel.resident);
        let [x, y, z] = kernel.threads;
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (x, y, z), shared_mem_bytes: 0 };
        let first_slot = 0u32;
        let mut launch = self.stream.launch_builder(&kernel.function);
        for buffer in buffers {
            launch.arg(buffer);
        }
        launch.arg(&self.word).arg(counters).arg(&epoch).arg(&first_slot);
        // SAFETY: the parameters are those that every preemptible kernel is emitted with: its
        // buffers, and then the word, the counters, the epoch and the first slot.
        unsafe { launch.launch(config) }?;
        let counted = self.stream.clone_dtoh(counters)?;
        self.stream.synchronize()?;
        Ok(counted[DONE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let message = |found: Cuda, ordinal| require(&found, ordinal).expect_err("missing").message;
        assert_eq!(message(Cuda::NoDriver, 0), "there is no NVIDIA driver on this machine");
        assert_eq!(
            message(Cuda::Broken("CUDA_ERROR_NOT_INITIALIZED".into()), 0),
            "the NVIDIA driver does not work: CUDA_ERROR_NOT_INITIALIZED"
        );
        assert_eq!(message(Cuda::Devices(Vec::new()), 0), "the NVIDIA driver finds no GPU");
        let one = || Cuda::Devices(vec!["H200".into()]);
        assert_eq!(message(one(), 1), "there is no device cuda:1, only 1");
        assert!(require(&one(), 0).is_ok());
    }
}
