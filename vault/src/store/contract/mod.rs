//! What every engine must do: one suite of sentences, run over each engine there is.

mod administering;
mod committing;
mod logging;
mod opening;
mod purging;
mod vault;

/// Makes a test of each function for each engine.
macro_rules! on_every_engine {
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
use on_every_engine;
