//! A moment of fuzzing for every reader; `testsuite fuzz` takes its time.
//!
//! An input that ends the process does so here too; `testsuite fuzz --reader R` finds which.

use std::time::{Duration, Instant};

use fermata_testsuite::fuzz::{Corpus, Reader, STACK_BYTES, attempt, input, limits};

#[global_allocator]
static ALLOCATOR: limits::Counting = limits::Counting;

/// How long a reader is tried.
const TIME: Duration = Duration::from_millis(1000);

fn tried(reader: Reader) {
    let work = move || {
        let corpus = Corpus::new(reader).expect("there are files to start from");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for seed in &corpus.seeds {
            if let Err(fault) = attempt(reader, seed, folder.path()) {
                panic!("a well-formed input: {fault}");
            }
        }
        let (mut accepted, mut seed) = (0, 0);
        let started = Instant::now();
        while started.elapsed() < TIME {
            match attempt(reader, &input(&corpus, seed), folder.path()) {
                Ok(took) => accepted += u64::from(took),
                Err(fault) => panic!("seed {seed}: {fault}"),
            }
            seed += 1;
        }
        println!("{seed} inputs, {accepted} accepted");
        assert!(accepted > 0, "no input is read: the corpus says nothing");
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    thread.expect("a thread").join().expect("no input is at fault");
}

/// One test after another: memory is counted for the whole process.
#[test]
fn every_reader_withstands_a_moment_of_fuzzing() {
    for reader in Reader::ALL {
        println!("{}:", reader.name());
        tried(reader);
    }
}
