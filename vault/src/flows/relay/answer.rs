//! Reads a destination's answer: bounded, unpacked, or refused by class.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use reqwest::Response;
use zeroize::Zeroizing;

use super::client::class;
use crate::flows::error::{Error, FailedReason};
use crate::flows::slots::WipedBuffer;

/// The most that is read of an answer, packed and unpacked.
pub(super) const LARGEST: usize = 256 * 1024;

/// The body of an answer of 200 to 299.
pub(super) async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, Error> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Error::DestinationFailed(FailedReason::Redirect));
    }
    if !status.is_success() {
        return Err(Error::DestinationFailed(FailedReason::Status));
    }
    let packed = framing(response.headers())?;
    let mut body = WipedBuffer::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| class(&error))? {
        if body.len() + chunk.len() > LARGEST {
            return Err(Error::DestinationFailed(FailedReason::Size));
        }
        body.push(&chunk);
    }
    if packed { unpack(&body.into_bytes()) } else { Ok(body.into_bytes()) }
}

/// Whether the body is packed. An answer that frames its body in two ways, or in a way that is not known, is refused:
/// the next answer of that connection might be somebody's invention (RFC 9112 section 6.3).
fn framing(headers: &HeaderMap) -> Result<bool, Error> {
    let refused = Err(Error::DestinationFailed(FailedReason::Response));
    let mut transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(first) = transfer.next() {
        let chunked = first.as_bytes().eq_ignore_ascii_case(b"chunked") && transfer.next().is_none();
        if !chunked || headers.contains_key(header::CONTENT_LENGTH) {
            return refused;
        }
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return refused;
    }
    let mut content = headers.get_all(header::CONTENT_ENCODING).iter();
    match (content.next().map(|value| value.as_bytes().to_ascii_lowercase()).as_deref(), content.next()) {
        (None | Some(b"identity"), None) => Ok(false),
        (Some(b"gzip"), None) => Ok(true),
        _ => refused,
    }
}

/// Unpacks no more than is allowed: a bomb costs its fuse.
fn unpack(packed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut decoder = MultiGzDecoder::new(packed);
    let mut body = WipedBuffer::default();
    let mut chunk = Zeroizing::new([0_u8; 8192]);
    loop {
        let read = decoder.read(&mut chunk[..]).map_err(|_| Error::DestinationFailed(FailedReason::Response))?;
        if read == 0 {
            return Ok(body.into_bytes());
        }
        if body.len() + read > LARGEST {
            return Err(Error::DestinationFailed(FailedReason::Size));
        }
        body.push(&chunk[..read]);
    }
}
