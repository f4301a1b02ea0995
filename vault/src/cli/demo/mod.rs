//! What `siv dev` adds to a vault so that a person can see it work: a shop with a server of its own, and an acquirer to charge.
//!
//! Both are clients of the vault's outside contract and have no other way in. The shop's server holds the credentials a real
//! shop would hold; the acquirer is the one place besides the vault that a card number reaches.
//!
//! Routes of the shop (its own origin, `http://localhost:8090`):
//!
//! | route | |
//! |---|---|
//! | `GET /`, `GET /<file>` | the pages of `shop/`; by the number of the machine (`http://127.0.0.1:8090`) a redirect to the name; in `.html` the words `{{vault}}`, `{{app}}`, `{{script}}`, `{{integrity}}` and `{{console}}` are filled in |
//! | `POST /api/capture-session` `{"fields":["card-number","card-cvc"]}` | 201 `{"captureToken","expiresAt"}` |
//! | `POST /api/charge` `{"card":"svk_…","cvc":"svk_…","amount":4200,"order":"order-1"}` | `{"runId","outputs":{"charge","status","last4"},"receipts"}` |
//! | `POST /api/login` `{"password":"svk_…"}` | `{"runId","outputs":{"verified"},"receipts"}` |
//! | `GET /api/seen` | `{"data":[{"time","route","body"}]}`: every body the shop's server received, newest first |
//! | `GET /api/accesses` | `{"data":[…]}`: the access entries of the values the shop was handed, newest first |
//!
//! An error is the vault's problem document, passed on with its status.

mod acquirer;
mod pages;
mod provision;
mod server;
mod shop;

pub(super) use acquirer::Acquirer;
pub(super) use provision::{LIFETIME, Provision, TENANT, last_acquirer, last_shop};
pub(super) use shop::{Shop, ShopSettings};
