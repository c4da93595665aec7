//! The project that a datafile belongs to.

use edgesplit_engine::attribute::AttributeName;
use serde_json::{Map, Value};

/// The members of events that are the same for a whole datafile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// `accountId`
    pub account_id: String,
    /// `projectId`
    pub project_id: String,
    /// `revision`
    pub revision: String,
    /// Whether Optimizely drops a part of the address.
    pub anonymize_ip: bool,
    /// Whether Optimizely leaves bots out. Events omit it if the datafile does.
    pub bot_filtering: Option<bool>,
    /// Whether it is in the region `EU`, which takes its events at a host of its own.
    pub is_eu: bool,
    /// Whether every decision about a flag is reported, and not only those of experiments.
    pub send_flag_decisions: bool,
    /// The attributes that events may carry.
    pub attributes: Vec<ReportedAttribute>,
    /// The ids of the events that count conversions, by their keys.
    pub(super) conversions: Map<String, Value>,
}

/// An attribute that events may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedAttribute {
    /// Its id at Optimizely.
    pub id: String,
    /// Its key at Optimizely.
    pub key: String,
    /// The source of its value.
    pub name: AttributeName,
}
