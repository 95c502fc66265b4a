//! The program `fermata`.

fn main() {
    fermata::Driver::standard().main()
}
