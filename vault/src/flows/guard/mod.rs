//! The guard: finds plaintexts of a run in what is about to leave it, in every encoding of design.md section 6.
//!
//! Patterns are our own bytes, searched by our own loop and wiped on drop: an automaton of a library would keep copies
//! of them that cannot be wiped. Texts are short (bounded fields), so this is also faster than building one per run.

mod encodings;
mod views;

use std::fmt;

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use self::views::{compact, fold, views};
use crate::domain::Plaintext;

/// Plaintexts of fewer characters are looked for as a whole field or word only: inside others they would be found by
/// chance.
pub(in crate::flows) const SHORT: usize = 7;

type Pattern = Zeroizing<Vec<u8>>;

/// Looks for the plaintexts it was told to watch.
#[derive(Default)]
pub struct Guard {
    /// Found anywhere; sorted.
    anywhere: Vec<Pattern>,
    /// Found anywhere in a text without its separators; sorted.
    compacted: Vec<Pattern>,
    /// Found as a whole word only.
    words: Vec<Pattern>,
    /// The words without their separators: found as the whole of a text without its own.
    compacted_words: Vec<Pattern>,
}

impl Guard {
    /// A guard over these plaintexts.
    #[must_use]
    pub fn new(plaintexts: &[&Plaintext]) -> Self {
        let mut guard = Self::default();
        plaintexts.iter().for_each(|plaintext| guard.watch(plaintext));
        guard
    }

    /// Watches one more plaintext. One that looks like an escape is watched as what it would be read as, too: a
    /// destination may undo it.
    #[expect(clippy::disallowed_methods, reason = "the guard looks for this very text")]
    pub fn watch(&mut self, plaintext: &Plaintext) {
        for view in views(plaintext.expose_secret()) {
            self.watch_text(&view);
        }
        for patterns in [&mut self.anywhere, &mut self.compacted, &mut self.words, &mut self.compacted_words] {
            patterns.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
            patterns.dedup();
        }
    }

    /// True if a plaintext is watched that is too short to be found inside other texts.
    #[must_use]
    pub const fn watches_words(&self) -> bool {
        !self.words.is_empty()
    }

    fn watch_text(&mut self, text: &str) {
        let length = text.chars().count();
        if length == 0 {
            return;
        }
        if length < SHORT {
            for word in encodings::whole(text) {
                let bare = std::str::from_utf8(&word).map(compact).unwrap_or_default();
                if !bare.is_empty() {
                    self.compacted_words.push(Zeroizing::new(bare.as_bytes().to_vec()));
                }
                self.words.push(word);
            }
            return;
        }
        self.watch_piece(text);
        // Of an odd length each half has the middle character: else one of them would be under the limit.
        let half = length.div_ceil(2);
        if half >= SHORT {
            let at = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
            self.watch_piece(&text[..at(half)]);
            self.watch_piece(&text[at(length - half)..]);
        }
    }

    /// True if the text holds a watched plaintext, or a half of one, in any encoding.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        let nothing = self.anywhere.is_empty() && self.words.is_empty();
        !nothing && views(text).iter().any(|view| self.finds_in(view))
    }

    fn finds_in(&self, view: &str) -> bool {
        let folded = fold(view);
        let bare = compact(&folded);
        contains_any(folded.as_bytes(), &self.anywhere)
            || contains_any(bare.as_bytes(), &self.compacted)
            || self.words.iter().any(|word| has_word(folded.as_bytes(), word))
            || self.compacted_words.iter().any(|word| **word == *bare.as_bytes())
    }

    fn watch_piece(&mut self, piece: &str) {
        for pattern in encodings::anywhere(piece) {
            // The separators of a text say nothing; a pattern that is hardly more than separators would.
            if let Ok(text) = std::str::from_utf8(&pattern) {
                let bare = compact(text);
                if bare.chars().count() >= SHORT {
                    self.compacted.push(Zeroizing::new(bare.as_bytes().to_vec()));
                }
            }
            self.anywhere.push(pattern);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard(…)")
    }
}

/// Whether one of the sorted patterns stands somewhere in the text.
fn contains_any(text: &[u8], patterns: &[Pattern]) -> bool {
    let mut heads = [false; 256];
    for head in patterns.iter().filter_map(|pattern| pattern.first()) {
        heads[usize::from(*head)] = true;
    }
    text.iter().enumerate().filter(|(_, head)| heads[usize::from(**head)]).any(|(at, head)| {
        let from = patterns.partition_point(|pattern| pattern.first() < Some(head));
        let same = patterns[from..].iter().take_while(|pattern| pattern.first() == Some(head));
        same.into_iter().any(|pattern| text[at..].starts_with(pattern))
    })
}

/// Whether the word stands in the text between ends or delimiters.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let (Some(first), Some(last)) = (word.first(), word.last()) else { return false };
    // A byte of a longer UTF-8 character counts as a letter; a word's own delimiter at its edge needs none beside it.
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
    let parted = |inner: &u8, outer: Option<&u8>| !letter(inner) || outer.is_none_or(|outer| !letter(outer));
    text.windows(word.len()).enumerate().filter(|(_, window)| *window == word).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        parted(first, before) && parted(last, text.get(at + word.len()))
    })
}

#[cfg(test)]
mod tests;
