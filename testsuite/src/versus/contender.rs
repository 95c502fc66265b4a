//! A runtime in a process of its own, that runs a model when it is told to.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// A process that is ready to run a model.
pub(super) struct Contender {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// From the file to the first run that is possible, in ns.
    pub(super) ready: u64,
    /// The memory of the process before it saw the model, in bytes.
    pub(super) base: u64,
}

#[derive(Deserialize)]
struct Ready {
    ready_ns: u64,
    base_bytes: u64,
}

#[derive(Deserialize)]
struct Turn {
    times_ns: Vec<u64>,
}

#[derive(Deserialize)]
struct End {
    peak_bytes: u64,
}

/// What a process is given: a model, its inputs, where the results go, and on how many threads.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) model: &'a Path,
    pub(super) inputs: &'a Path,
    pub(super) results: &'a Path,
    pub(super) threads: usize,
}

impl Contender {
    /// Starts a process on the first cores of the machine, as many as it has threads, and waits
    /// until it is ready. `command` lacks the task.
    pub(super) fn start(command: &Command, task: Task<'_>) -> io::Result<Contender> {
        let mut pinned = Command::new("taskset");
        pinned.arg("--cpu-list").arg(format!("0-{}", task.threads - 1));
        pinned.arg(command.get_program()).args(command.get_args());
        pinned.args([task.model, task.inputs, task.results]).arg(task.threads.to_string());
        let mut process = pinned.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (input, output) = pipes.ok_or_else(|| io::Error::other("a process has no pipes"))?;
        let mut started = Contender { process, input, output: BufReader::new(output), ready: 0, base: 0 };
        let Ready { ready_ns, base_bytes } = started.answer()?;
        (started.ready, started.base) = (ready_ns, base_bytes);
        Ok(started)
    }

    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a process ended before it answered"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Runs the model for so many seconds; gives how long the fastest run took, in ns: whatever
    /// else the machine does makes runs slower, never faster.
    pub(super) fn turn(&mut self, seconds: f64) -> io::Result<u64> {
        writeln!(self.input, "turn {seconds}")?;
        let Turn { times_ns } = self.answer()?;
        times_ns.into_iter().min().ok_or_else(|| io::Error::other("a turn had no run"))
    }

    /// Ends the process, which writes its results; gives the most memory that it ever had.
    pub(super) fn end(mut self) -> io::Result<u64> {
        writeln!(self.input, "end")?;
        let End { peak_bytes } = self.answer()?;
        self.process.wait()?;
        Ok(peak_bytes)
    }
}
