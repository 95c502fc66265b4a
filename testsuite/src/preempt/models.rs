//! Whole models on the virtual device: random interleavings, kernel after kernel.

use fermata::inputs::Random;
use fermata_codegen::cpu::compile_all;
use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::lower::lower;
use fermata_passes::lower::plan::Program;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, parse, standard};
use fermata_passes::relay::quantize::Scheme;
use fermata_passes::table::PassTable;
use fermata_runtime::detect;
use fermata_runtime::device::Device;
use fermata_runtime::device::simulated::{Findings, Simulated};
use fermata_runtime::exec::Session;

/// Values of integer inputs are below this: they are indices of a vocabulary, or masks.
const WORDS: f64 = 1000.0;

/// A model, compiled for this machine, with inputs for it.
pub struct Compiled {
    /// The plan.
    pub program: Program,
    /// Its machine code.
    pub kernels: Vec<CompiledKernel>,
    /// Random inputs.
    pub inputs: Vec<Tensor>,
}

fn first(diagnostics: Diagnostics) -> String {
    diagnostics.0.into_iter().next().map_or_else(String::new, |d| d.message.to_string())
}

impl Compiled {
    /// Compiles a program at the default level, quantised if a scheme is given.
    ///
    /// # Errors
    /// What the compiler says first.
    pub fn new(mut module: Module, scheme: Option<Scheme>) -> Result<Compiled, String> {
        infer_module(&mut module).map_err(first)?;
        let target = detect::host();
        let mut pipeline = standard(Level(2));
        if let Some(scheme) = scheme {
            let text = format!("infer_type,quantize{{scheme={}}}", scheme.name());
            let steps = parse(&text, &PassTable::standard()).map_err(|d| d.message.to_string())?;
            pipeline.steps.splice(0..0, steps.steps);
        }
        let options = Options { target: target.clone().into(), ..Options::default() };
        manager::run(&mut module, &pipeline, &options, &mut []).map_err(first)?;
        let program = lower(&module, &target.clone().into()).map_err(first)?;
        let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
        let kernels = compile_all(&funcs, &target).map_err(|d| d.message.to_string())?;
        let inputs = random_inputs(&program)?;
        Ok(Compiled { program, kernels, inputs })
    }

    /// Compiles the program of a Relay text.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn of_text(text: &str) -> Result<Compiled, String> {
        let ops = OpTable::standard();
        let module = parse_module("model.relay", text, &ParseOptions::new(&ops)).map_err(first)?;
        Compiled::new(module, None)
    }

    /// A session on a device.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn on(&self, device: Box<dyn Device + Send>) -> Result<Session, String> {
        Session::on_device(self.program.clone(), self.kernels.clone(), device, detect::features())
            .map_err(|d| d.message.to_string())
    }

    /// The results of an undisturbed run.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn undisturbed(&self) -> Result<Vec<Tensor>, String> {
        let session = Session::new(self.program.clone(), self.kernels.clone(), 1);
        session.and_then(|mut s| s.run(&self.inputs)).map_err(|d| d.message.to_string())
    }

    /// Runs the model on virtual devices of one, two, three … workers, an interleaving a seed;
    /// gives what they saw together.
    ///
    /// # Errors
    /// The seed, and the check that did not hold.
    pub fn interleaved(&self, seeds: std::ops::Range<u64>) -> Result<Findings, String> {
        let expected = self.undisturbed()?;
        let mut all = Findings::default();
        for seed in seeds {
            let workers = 1 + seed as usize % 4;
            let device = Simulated::new(workers, seed, FLIP_EVERY).watching(&self.program);
            let log = device.log();
            let found = self.on(Box::new(device))?.run(&self.inputs).map_err(|d| d.message.to_string())?;
            let findings = log.findings();
            if let Some(violation) = findings.violation {
                return Err(format!("seed {seed}: {violation}"));
            }
            if !found.iter().zip(&expected).all(|(a, b)| a.bitwise_eq(b)) {
                return Err(format!("seed {seed}: result: not the bits of an undisturbed run"));
            }
            all.launches += findings.launches;
            all.tiles += findings.tiles;
            all.flips += findings.flips;
            all.parked += findings.parked;
        }
        Ok(all)
    }
}

/// One in so many steps of a virtual device flips the word.
const FLIP_EVERY: u64 = 4;

/// Random inputs of a program, the same for each of the same types.
///
/// # Errors
/// If it has no entry, or an input of a type that has no random values.
pub fn random_inputs(program: &Program) -> Result<Vec<Tensor>, String> {
    let entry = program.entry.ok_or("the program has no entry")?;
    let plan = &program.funcs[entry];
    let mut random = Random::new(7);
    let tensors = plan.inputs.iter().map(|port| {
        let buffer = &plan.buffers[port.buffer];
        let high = match buffer.dtype {
            dtype if dtype.is_float() => 1.0,
            _ if &*port.name == "input_ids" => WORDS,
            _ => 2.0,
        };
        random.tensor(buffer.dtype, &buffer.shape, 0.0, high).map_err(|e| e.to_string())
    });
    tensors.collect()
}
