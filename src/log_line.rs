//! Lines for the proxy's log.

use edgesplit_engine::printable::printable;

/// The number of `level`, which both ABIs share, and the line with `message`.
pub(crate) fn log_line(level: log::Level, message: &str) -> (u32, String) {
    let severity = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    (severity, format!("edgesplit: {}", printable(message)))
}
