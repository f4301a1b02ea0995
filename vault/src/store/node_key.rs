//! The certified key of one start of a node, as a row that decides.

use serde::{Deserialize, Serialize};

use super::records::Body;
use super::rows::Table;
use crate::domain::{BootId, Timestamp};

/// A start of a node: body of a row of [`Table::NodeKeys`], key: the boot's id, under the system's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeKeyRecord {
    /// The boot.
    pub boot: BootId,
    /// The node's name.
    pub node: String,
    /// The build that ran.
    pub build: String,
    /// The certificate: a note signed by the system log's key.
    pub certificate: String,
    /// When it started.
    pub started_at: Timestamp,
}

impl Body for NodeKeyRecord {
    const TABLE: Table = Table::NodeKeys;
}
