//! A customer's key-encryption key in a token of their own, over PKCS#11.
//!
//! This crate knows nothing of the vault: no tenants, no data keys' contexts, no async runtime. It will speak to a module through
//! the maintained crate `cryptoki` (docs/decisions/0001-cryptoki-not-pkcs11.md), in a worker process of its own, because a
//! vendor's module is foreign code that must not share the vault's memory. Nothing of it is offered yet: tenants use the built-in KMS.

#![forbid(unsafe_code)]
