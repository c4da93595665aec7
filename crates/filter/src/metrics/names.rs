//! The metrics without a name from the config.

/// Declares a set of metrics once: the enum, its names and the list of all.
macro_rules! metric_names {
    ($(#[$doc:meta])* $set:ident { $($(#[$item_doc:meta])* $item:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $set {
            $($(#[$item_doc])* $item,)*
        }

        impl $set {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [$set] = &[$($set::$item,)*];

            /// The name behind `edgesplit.<plugin>.`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($set::$item => $name,)*
                }
            }
        }
    };
}

metric_names! {
    /// Metrics that only grow.
    Counter {
        /// Events that were put into a buffer, or dropped instead.
        Emitted = "events.emitted",
        /// Events that the A/B service acknowledged.
        Delivered = "events.delivered",
        /// Events that it refused for good.
        Rejected = "events.rejected",
        /// Events for which there was no room.
        DroppedOverflow = "events.dropped_overflow",
        /// Events that became too old.
        DroppedExpired = "events.dropped_expired",
        /// Events that went to the fallback.
        Diverted = "events.diverted",
        /// Fetches of a config, new or the same.
        FetchSuccess = "config.fetch_success",
        /// Fetches that were answered 304.
        FetchNotModified = "config.fetch_not_modified",
        /// Fetches without a usable answer.
        FetchFailure = "config.fetch_failure",
        /// Answers whose body was refused.
        ConfigRejected = "config.rejected",
        /// Fetched configs that differ from the one before.
        ConfigChanges = "config.changes",
        /// Ids that were minted.
        Minted = "mint.minted",
        /// Ids that were not minted because the client did not connect over https, so its browser would drop the cookie.
        MintRefusedInsecure = "mint.refused_insecure",
        /// Ids that were not minted because the request does not show a page.
        MintRefusedNotNavigation = "mint.refused_not_navigation",
        /// Cookies of the filter that were removed from a browser: too many of a vendor's sticky buckets, or set for another
        /// domain by an earlier configuration.
        CookiesRemoved = "cookies.removed",
        /// Requests that passed unchanged because there was no config.
        NoConfig = "errors.no_config",
        /// Events dropped in the worker because its buffer was full (also in `dropped_overflow`).
        BufferFull = "errors.buffer_full",
        /// Changes of shared data that were given up because other workers kept changing it. They are retried.
        CasExhausted = "errors.cas_exhausted",
        /// Reads or writes of shared data that the host refused.
        SharedData = "errors.shared_data",
        /// Shared data of another version, or damaged: it was replaced.
        SharedDataCorrupt = "errors.shared_data_corrupt",
        /// Events whose slot did not hold them.
        EventsLost = "errors.events_lost",
        /// Calls that did not start, usually because there is no such cluster.
        Dispatch = "errors.dispatch",
        /// Batches that the fallback refused. They still count as diverted.
        FallbackFailed = "errors.fallback_failed",
        /// Answers to calls that were given up, or whose batch another worker settled.
        StaleReply = "errors.stale_reply",
        /// Configs whose names of request headers exceed the number of names that are remembered for good.
        OwnedNames = "errors.owned_names",
        /// Local responses that the host refused.
        Respond = "errors.respond",
        /// Path rewrites and redirects that were left out: the path would lead to another host or folder, or the redirect
        /// to a host that is not allowed.
        EffectRefused = "errors.effect_refused",
        /// Pairs that the assignments header had no room for.
        AssignmentsOmitted = "errors.assignments_omitted",
        /// Requests whose events exceeded their limit of work: attributes are missing, or events in a vendor's format.
        EventLimit = "errors.event_limit",
        /// Cookies with sticky buckets that were too long for browsers, and were not set.
        StickyOmitted = "errors.sticky_omitted",
        /// Exposures and responses that were counted under `_other`, and decisions and goals that were counted for no
        /// experiment, because there are too many names.
        NamesExhausted = "errors.names_exhausted",
        /// Legs of internal redirects whose next leg did not reach the filter: their exposures are not emitted.
        LegsLost = "errors.legs_lost",
    }
}

metric_names! {
    /// Metrics that go up and down.
    Gauge {
        /// Events in buffers and in the outbox.
        QueuedEvents = "outbox.queued_events",
        /// The bytes they take up.
        QueuedBytes = "outbox.queued_bytes",
        /// The age of the oldest waiting batch, in seconds.
        OldestAgeSeconds = "outbox.oldest_age_seconds",
        /// Experiments that are invalid and switched off.
        DisabledExperiments = "config.disabled_experiments",
        /// Seconds since the config service last confirmed this config.
        AgeSeconds = "config.age_seconds",
        /// The hash of the revision of the config in force.
        RevisionHash = "config.revision_hash",
    }
}
