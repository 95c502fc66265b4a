//! What BERT's tokenizer makes of texts; the expected tokens are those of Hugging Face's.

use super::normalize::{Normalizer, words};
use super::wordpiece::WordPiece;

const UNCASED: Normalizer = Normalizer { clean: true, chinese: true, strip_accents: true, lowercase: true };

#[test]
fn normalisation_drops_accents_case_and_control_characters() {
    assert_eq!(UNCASED.apply("H\u{e9}llo\tW\u{0}ORLD\u{200b}\u{fffd}!"), "hello world!");
    let cased = Normalizer { strip_accents: false, lowercase: false, ..UNCASED };
    assert_eq!(cased.apply("H\u{e9}llo \u{4e2d}\u{6587}"), "H\u{e9}llo  \u{4e2d}  \u{6587} ");
}

#[test]
fn words_end_at_blanks_and_marks() {
    let split = |text: &'static str| words(text).collect::<Vec<_>>();
    assert_eq!(
        split("it's  a(b)..\u{3002}x"),
        ["it", "'", "s", "a", "(", "b", ")", ".", ".", "\u{3002}", "x"]
    );
    assert_eq!(split("  "), [""; 0]);
}

#[test]
fn the_longest_piece_is_taken_and_what_has_none_is_unknown() {
    let pieces = ["[UNK]", "un", "##aff", "##able", "##a", "una", "\u{e9}"];
    let vocab = pieces.iter().zip(0u32..).map(|(p, t)| ((*p).into(), t)).collect();
    let model = WordPiece { vocab, prefix: "##".into(), unknown: 0, max_chars: 9 };
    let split = |word: &str| {
        let mut tokens = vec![9];
        model.split(word, &mut tokens);
        tokens
    };
    assert_eq!(split("unaffable"), [9, 0]);
    assert_eq!(split("unable"), [9, 0]);
    assert_eq!(split("unaaff"), [9, 5, 2]);
    assert_eq!(split("unaaffaaaa"), [9, 0]);
    assert_eq!(split("\u{e9}a"), [9, 6, 4]);
    assert_eq!(split("un\u{4e2d}"), [9, 0]);
}
