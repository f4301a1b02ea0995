//! u32 length ‖ text ‖ zeros up to a bucket, so that neither the database nor an edge shows a text's length.

use zeroize::Zeroizing;

use super::Error;

/// The sizes a padded text can have.
pub(crate) const BUCKETS: [usize; 5] = [64, 256, 1024, 4096, 16384];
const LENGTH: usize = 4;

/// Pads a text to the smallest bucket it fits.
///
/// # Errors
/// [`Error::TooLong`] if it fits none.
pub(super) fn pad(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = u32::try_from(text.len()).map_err(|_| Error::TooLong)?;
    let bucket = BUCKETS.into_iter().find(|bucket| text.len() + LENGTH <= *bucket).ok_or(Error::TooLong)?;
    let mut padded = Zeroizing::new(vec![0; bucket]);
    padded[..LENGTH].copy_from_slice(&length.to_be_bytes());
    padded[LENGTH..LENGTH + text.len()].copy_from_slice(text.as_bytes());
    Ok(padded)
}

/// Takes the padding off again; there is one padded form per text.
///
/// # Errors
/// [`Error::Refused`] if the size is no bucket or not the smallest, the length too large, a pad byte not zero, or the
/// text not UTF-8.
pub(super) fn unpad(padded: &[u8]) -> Result<Zeroizing<String>, Error> {
    let (length, rest) = padded.split_first_chunk::<LENGTH>().ok_or(Error::Refused)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Error::Refused)?;
    let (text, zeros) = rest.split_at_checked(length).ok_or(Error::Refused)?;
    let smallest = BUCKETS.into_iter().find(|bucket| length + LENGTH <= *bucket);
    if smallest != Some(padded.len()) || zeros.iter().fold(0, |all, byte| all | byte) != 0 {
        return Err(Error::Refused);
    }
    let text = std::str::from_utf8(text).map_err(|_| Error::Refused)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_fills_the_smallest_bucket_it_fits() {
        for (length, bucket) in [(0, 64), (60, 64), (61, 256), (252, 256), (253, 1024), (16_380, 16_384)] {
            let padded = pad(&"x".repeat(length)).unwrap();
            assert_eq!(padded.len(), bucket);
            assert_eq!(unpad(&padded).unwrap().len(), length);
        }
        assert!(matches!(pad(&"x".repeat(16_381)), Err(Error::TooLong)));
    }

    #[test]
    fn a_padding_that_is_not_ours_is_refused() {
        let padded = pad("4111").unwrap();
        for at in [0, 1, 2, 8, 63] {
            let mut wrong = padded.to_vec();
            wrong[at] ^= 1;
            assert!(matches!(unpad(&wrong), Err(Error::Refused)), "byte {at}");
        }
        let mut roomy = padded.to_vec();
        roomy.resize(256, 0);
        assert!(unpad(&roomy).is_err());
        let mut latin = padded.to_vec();
        latin[4] = 0xff;
        assert!(unpad(&latin).is_err());
    }
}
