//! Spellings of bytes as text: exactly one per content.

pub mod crockford;
pub mod hex;
