//! What every engine must do: one suite of sentences, run over each engine there is.

mod administering;
pub(in crate::store) mod anew;
mod asking;
mod bounds;
mod claiming;
mod closing;
mod committing;
mod copying;
mod custodians;
mod custody;
mod ended_keys;
mod ending;
mod file;
mod forgetting;
mod guessing;
mod lanes;
mod logging;
mod losing;
mod moving;
mod opening;
pub(in crate::store) mod postgres;
mod purging;
mod racing;
mod resealing;
mod retiring;
mod sessions;
mod sharing;
mod vault;
mod watching;

/// Makes a test of each function for each engine.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        super::on_sqlite!($($name),*);
        super::on_postgres!($($name),*);
    };
}
/// For SQLite alone.
macro_rules! on_sqlite {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::store::contract::vault::Vault::sqlite().await).await;
                }
            )*
        }
    };
}
/// For PostgreSQL alone.
macro_rules! on_postgres {
    ($($name:ident),* $(,)?) => {
        mod on_postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::store::contract::vault::Vault::postgres().await).await;
                }
            )*
        }
    };
}
use {on_every_engine, on_postgres, on_sqlite};
