//! Whose turn it is to make a key in a token.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::domain::{Clock, TenantName};
use crate::keys::fixture::{NOW, open};

#[tokio::test]
async fn a_key_that_takes_long_holds_up_the_next_one_of_its_own_tenant_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
    let hsm = &keys.inner.provider.hsm;
    let [slow, other]: [TenantName; 2] = ["slow", "other"].map(|name| name.parse().unwrap());
    let held = hsm.turn_to_make(&slow).await.unwrap();
    drop(hsm.turn_to_make(&other).await.unwrap());
    let mut next = pin!(hsm.turn_to_make(&slow));
    assert!(poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await, "it waits for its turn");
    drop(hsm.turn_to_make(&other).await.unwrap());
    drop(held);
    drop(next.await.unwrap());
    // Nobody's turn is remembered once it is over.
    drop(hsm.turn_to_make(&other).await.unwrap());
    assert!(!hsm.making.lock().unwrap().contains_key(&slow));
}
