//! Entry bundles (c2sp.org/tlog-tiles): up to 256 leaves, each behind its length as an unsigned 16-bit big-endian number.

use crate::access_log::Error;

/// Appends a leaf to a bundle.
///
/// # Errors
/// [`Error::LeafTooLong`].
pub fn push_entry(leaf: &[u8], bundle: &mut Vec<u8>) -> Result<(), Error> {
    let length = u16::try_from(leaf.len()).map_err(|_| Error::LeafTooLong)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(leaf);
    Ok(())
}

/// The leaves of a bundle and how many whole ones come before the first fault, if there is one.
///
/// # Errors
/// The number of whole leaves before bytes that are none.
pub fn split_entries(mut bundle: &[u8]) -> Result<Vec<&[u8]>, usize> {
    let mut leaves = Vec::new();
    while !bundle.is_empty() {
        let Some((length, rest)) = bundle.split_first_chunk::<2>() else { return Err(leaves.len()) };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((leaf, rest)) = rest.split_at_checked(length) else { return Err(leaves.len()) };
        leaves.push(leaf);
        bundle = rest;
    }
    Ok(leaves)
}
