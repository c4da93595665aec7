//! The exit codes of the command.

/// Success.
pub(crate) const EXIT_OK: u8 = 0;
/// Problems were found.
pub(crate) const EXIT_PROBLEMS: u8 = 1;
/// Incorrect usage, or an unreadable file.
pub(crate) const EXIT_USAGE: u8 = 2;
