//! What happens to a text before it is cut: BERT's normaliser and its split into words.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// What is done to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Normalizer {
    /// Drops control characters and makes every blank a space.
    pub clean: bool,
    /// Sets Chinese characters apart, so that each is a word.
    pub chinese: bool,
    /// Drops accents.
    pub strip_accents: bool,
    /// Makes letters small.
    pub lowercase: bool,
}

impl Normalizer {
    /// The normalised text.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        if self.clean {
            let kept = text.chars().filter(|&c| !is_dropped(c));
            text = kept.map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        }
        if self.chinese && text.chars().any(is_chinese) {
            text = text
                .chars()
                .flat_map(
                    |c| if is_chinese(c) { [Some(' '), Some(c), Some(' ')] } else { [Some(c), None, None] },
                )
                .flatten()
                .collect();
        }
        if self.strip_accents {
            let is_accent = |c: &char| c.general_category() == GeneralCategory::NonspacingMark;
            text = text.nfd().filter(|c| !is_accent(c)).collect();
        }
        if self.lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }
}

/// The words of a normalised text; a mark of punctuation is one.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(char::is_whitespace).flat_map(|run| run.split_inclusive(is_punctuation)).flat_map(|part| {
        // A part ends behind a mark; what is before it is a word of its own.
        let mark = part.char_indices().next_back().filter(|&(_, c)| is_punctuation(c));
        let (word, mark) = part.split_at(mark.map_or(part.len(), |(at, _)| at));
        [word, mark].into_iter().filter(|w| !w.is_empty())
    })
}

fn is_dropped(c: char) -> bool {
    let control = c.general_category_group() == GeneralCategoryGroup::Other;
    c == '\0' || c == '\u{fffd}' || control && !matches!(c, '\t' | '\n' | '\r')
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The blocks of CJK ideographs that BERT names.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
