//! Against real tokens, in real worker processes. A test that cannot run fails and says what to install.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it is surprised")]

mod crew;
mod endings;
mod failures;
mod hostile;
mod keks;
mod outage;
mod pin;
mod report;
mod selection;
mod token;
mod wrapping;
