//! Frames of functions: where each buffer of a running function lies.

use fermata_ir::entity::EntityRef;
use fermata_passes::lower::plan::{FuncId, FuncPlan, Place};

use crate::memory::{ALIGNMENT, AlignedBytes};

/// The memory of one running function.
pub(super) struct Frame {
    func: FuncId,
    arena: AlignedBytes,
    /// Copies of parameters whose memory ended with the caller's frame; made when first needed.
    kept: Option<AlignedBytes>,
    /// The address of each buffer.
    pub pointers: Vec<*mut u8>,
    /// Where the results go; empty for the entry, whose caller copies.
    pub results: Vec<*mut u8>,
}

impl Frame {
    /// Whether an address is in this frame's own memory.
    pub fn owns(&self, address: *mut u8) -> bool {
        let within = |block: &AlignedBytes| {
            let start = block.as_ptr() as usize;
            (start..start + block.len()).contains(&(address as usize))
        };
        within(&self.arena) || self.kept.as_ref().is_some_and(within)
    }

    /// Copies a parameter's value into this frame, after the `used` bytes that hold others.
    pub fn keep(&mut self, from: *const u8, bytes: usize, used: &mut usize, plan: &FuncPlan) -> *mut u8 {
        let all =
            || plan.inputs.iter().map(|p| plan.buffers[p.buffer].bytes().next_multiple_of(ALIGNMENT)).sum();
        let kept = self.kept.get_or_insert_with(|| AlignedBytes::zeroed(all()));
        let room = &mut kept.as_mut_slice()[*used..*used + bytes];
        // SAFETY: the caller's buffer has this many bytes, and this frame's memory is its own.
        unsafe { std::ptr::copy_nonoverlapping(from, room.as_mut_ptr(), bytes) };
        *used += bytes.next_multiple_of(ALIGNMENT);
        room.as_mut_ptr()
    }
}

/// Frames that are not in use, by function.
pub(super) struct Frames(Vec<Vec<Frame>>);

impl Frame {
    /// Says where the bytes of a place are: every buffer that lies there points at them.
    pub fn bind(&mut self, plan: &FuncPlan, place: Place, bytes: *mut u8) {
        for (id, buffer) in plan.buffers.iter() {
            if buffer.place == place {
                self.pointers[id.index()] = bytes;
            }
        }
    }
}

impl Frames {
    /// None yet.
    pub fn new(funcs: usize) -> Frames {
        Frames((0..funcs).map(|_| Vec::new()).collect())
    }

    /// A frame of a function, with constants and temporaries in place.
    pub fn take(&mut self, id: FuncId, plan: &FuncPlan, constants: &[*const u8]) -> Frame {
        if let Some(mut frame) = self.0[id.index()].pop() {
            frame.results.clear();
            return frame;
        }
        let arena = AlignedBytes::zeroed(plan.arena_bytes);
        let address = |place| match place {
            Place::Constant(index) => constants[index].cast_mut(),
            // SAFETY: the plan was checked: the offset is within the arena.
            Place::Arena(offset) => unsafe { arena.as_ptr().add(offset) },
            // Bound by whoever enters the function.
            Place::Input(_) | Place::Output(_) => std::ptr::NonNull::<u8>::dangling().as_ptr(),
        };
        let pointers = plan.buffers.values().map(|buffer| address(buffer.place)).collect();
        Frame { func: id, arena, kept: None, pointers, results: Vec::with_capacity(plan.outputs.len()) }
    }

    /// Keeps a frame for the next call of its function.
    pub fn give_back(&mut self, frame: Frame) {
        self.0[frame.func.index()].push(frame);
    }
}
