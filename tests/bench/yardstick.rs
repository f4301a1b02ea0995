//! Servers to compare with, each this program once more in a process of its own: what they serve, and how they are started.
//!
//! The bare one parses a small JSON body and answers. What the others do with a database lives in `reference.rs`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::reference;

/// The body of all of them.
#[derive(Deserialize, Serialize)]
pub struct Body {
    /// A field's name.
    pub field: String,
    /// What was typed into it.
    pub value: String,
}

/// Serves what the arguments say until its standard input ends: with whoever started it, however that ends. Prints its address
/// first.
pub async fn serve(kind: &str, database: Option<&str>) {
    let router = match (kind, database) {
        ("bare", _) => Router::new().route("/echo", post(async |Json(body): Json<Body>| Json(body))),
        (kind, Some(database)) => reference::router(kind, database).await,
        (kind, None) => panic!("{kind} needs a database"),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router)
        .await
        .unwrap();
}

/// A running yardstick.
pub struct Yardstick {
    child: Child,
    /// Its host and port.
    pub host: String,
}

impl Yardstick {
    /// Starts this program again as a yardstick.
    pub fn start(kind: &str, database: Option<&str>) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own)
            .arg("--serve")
            .arg(kind)
            .args(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut host = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut host).unwrap();
        assert!(!host.is_empty(), "the yardstick {kind} does not start");
        Self { child, host: host.trim().to_owned() }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
