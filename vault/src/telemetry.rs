//! Where the process tells what it does: for people on a terminal, as JSON lines elsewhere. Never a value, at any level.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Foreign crates that print bodies, headers or statements at their finest levels. They stay at `warn` whatever the setting says.
const QUIET: [&str; 9] =
    ["hyper", "hyper_util", "h2", "reqwest", "rustls", "tokio_rustls", "tower", "tower_http", "sqlx"];

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what stops work.
    Error,
    /// What a person should look at.
    Warn,
    /// Starts, stops, changes.
    #[default]
    Info,
    /// Decisions inside.
    Debug,
    /// Everything of our own.
    Trace,
}

impl LogLevel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn directives(self) -> String {
        let mut directives = self.as_str().to_owned();
        for name in QUIET {
            let level = if self == Self::Error { "error" } else { "warn" };
            directives.push_str(&format!(",{name}={level}"));
        }
        directives
    }
}

/// Starts telling, to standard error, once per process; a second call changes nothing.
pub fn start(level: LogLevel) {
    let filter = EnvFilter::builder().parse_lossy(level.directives());
    // Spans are at debug; the line at the end of one tells how long it took.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_span_events(FmtSpan::CLOSE);
    let _ = if std::io::stderr().is_terminal() {
        builder.with_target(false).compact().try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(true).try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_crates_stay_quiet_at_trace() {
        let directives = LogLevel::Trace.directives();
        assert!(directives.starts_with("trace,"));
        assert!(directives.contains("sqlx=warn") && directives.contains("hyper=warn"));
        assert!(EnvFilter::try_new(&directives).is_ok());
    }
}
