//! The reasons why a call got no answer from its service, as far as the proxy reports them.

use crate::host::{DispatchError, Host, Reply, status};

/// The largest body that the proxy accepts from a service that the filter calls. It resets the call if there are more.
pub const CALL_BODY_BYTES_MAX: usize = 32 << 20;

/// How much of the body of a failed call is read. The proxy's own texts are shorter.
const ERROR_BODY_BYTES_MAX: usize = 512;

/// How much of the proxy's reason is logged, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The reason why a call got no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// The proxy has no such cluster.
    NoCluster,
    /// The cluster has no host, or no healthy one.
    NoHealthyHost,
    /// No connection could be made. The proxy's reason.
    NotConnected(String),
    /// The answer did not come in time.
    Timeout,
    /// The call broke off, for the proxy's reason.
    Disconnected(String),
    /// The call was reset, for an unknown reason.
    Reset,
    /// The service answered with this status.
    Status(u16),
}

impl From<DispatchError> for CallFailure {
    fn from(error: DispatchError) -> CallFailure {
        match error {
            DispatchError::NoCluster => CallFailure::NoCluster,
            DispatchError::Failed => CallFailure::NoHealthyHost,
        }
    }
}

impl CallFailure {
    /// The failure of a call with this reply. The proxy answers with texts of its own if the service does not.
    pub fn of(reply: &impl Reply) -> CallFailure {
        let Some(status) = status(&reply.headers().map()) else { return CallFailure::Reset };
        if !matches!(status, 503 | 504) {
            return CallFailure::Status(status);
        }
        let body = reply.body(ERROR_BODY_BYTES_MAX);
        let body = String::from_utf8_lossy(&body);
        let reason = body.split_once("reset reason: ").map(|(_, reason)| shown(reason));
        match (status, reason) {
            (503, _) if body.starts_with("no healthy upstream") => CallFailure::NoHealthyHost,
            (504, _) if body.starts_with("upstream request timeout") => CallFailure::Timeout,
            (503, Some(reason)) if body.starts_with("upstream connect error") => {
                let is_unconnected = ["connection failure", "connection timeout"].iter().any(|it| reason.contains(it));
                if is_unconnected { CallFailure::NotConnected(reason) } else { CallFailure::Disconnected(reason) }
            }
            _ => CallFailure::Status(status),
        }
    }

    /// The failure of a call to `cluster`, for the log.
    #[inline(never)]
    pub fn describe(&self, cluster: &str) -> String {
        match self {
            CallFailure::NoCluster => format!("there is no cluster {cluster:?}"),
            CallFailure::NoHealthyHost => {
                format!("cluster {cluster:?} has no healthy host: its name does not resolve, or its health checks fail")
            }
            CallFailure::NotConnected(reason) => format!("no connection to cluster {cluster:?}: {reason}"),
            CallFailure::Timeout => format!("cluster {cluster:?} did not answer in time"),
            CallFailure::Disconnected(reason) => format!("the call to cluster {cluster:?} broke off: {reason}"),
            CallFailure::Reset => format!(
                "the call to cluster {cluster:?} was reset: the answer broke off, or is larger than the {} MiB that the \
                 proxy accepts",
                CALL_BODY_BYTES_MAX >> 20
            ),
            CallFailure::Status(status) => format!("status {status}"),
        }
    }
}

/// The proxy's reason as one line of plain text.
fn shown(reason: &str) -> String {
    let plain = |char: char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' };
    reason.chars().take(REASON_CHARS_MAX).map(plain).collect()
}

/// Logs the failures of calls to one service: the first of several equal ones, and the end.
#[derive(Debug, Default)]
pub struct FailureLog {
    last: Option<CallFailure>,
}

impl FailureLog {
    /// Logs `failure` with its consequence, unless it is the same as the last one.
    pub fn failed(&mut self, host: &impl Host, failure: CallFailure, (cluster, consequence): (&str, &str)) {
        if self.last.as_ref() != Some(&failure) {
            host.log(log::Level::Warn, &format!("{consequence} ({})", failure.describe(cluster)));
            self.last = Some(failure);
        }
    }

    /// Logs that calls succeed again, if the last one failed.
    pub fn succeeded(&mut self, host: &impl Host, message: &str) {
        if self.last.take().is_some() {
            host.log(log::Level::Info, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::{TestHost, TestReply};

    fn failure(status: u16, body: &str) -> CallFailure {
        CallFailure::of(&TestReply { headers: vec![(":status", status.to_string())], body: body.as_bytes().to_vec() })
    }

    #[test]
    fn proxy_errors_are_distinguished() {
        let error = |reason: &str| {
            failure(503, &format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}"))
        };
        let refused = "remote connection failure, transport failure reason: delayed connect error: Connection refused";
        assert_eq!(error(refused), CallFailure::NotConnected(refused.to_owned()));
        assert_eq!(error("connection timeout"), CallFailure::NotConnected("connection timeout".to_owned()));
        assert_eq!(error("connection termination"), CallFailure::Disconnected("connection termination".to_owned()));
        assert_eq!(error("a\n\u{1b}[31mb\u{202e}"), CallFailure::Disconnected("a??[31mb?".to_owned()));
        assert_eq!(failure(503, "no healthy upstream"), CallFailure::NoHealthyHost);
        assert_eq!(failure(504, "upstream request timeout"), CallFailure::Timeout);
        assert_eq!(CallFailure::of(&TestReply { headers: Vec::new(), body: Vec::new() }), CallFailure::Reset);
    }

    #[test]
    fn answers_of_the_service_keep_their_status() {
        for (status, body) in [(503, "maintenance"), (504, ""), (404, "no healthy upstream"), (500, "reset reason: x")]
        {
            assert_eq!(failure(status, body), CallFailure::Status(status));
        }
    }

    #[test]
    fn repeated_failures_are_logged_once() {
        let (host, mut log) = (TestHost::default(), FailureLog::default());
        log.succeeded(&host, "again");
        for failure in [CallFailure::Timeout, CallFailure::Timeout, CallFailure::Reset, CallFailure::Timeout] {
            log.failed(&host, failure, ("c", "failed"));
        }
        log.succeeded(&host, "again");
        log.succeeded(&host, "again");
        let lines = host.log.borrow();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (4, Some("again")));
        assert_eq!(lines.first().map(String::as_str), Some("failed (cluster \"c\" did not answer in time)"));
    }
}
