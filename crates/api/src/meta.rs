//! What every object carries: name, uid, labels, versions, owners.
//!
//! Owns: `ObjectMeta` and references between objects. Does not own: the rules for names (validation).

use crate::ids::{Revision, Timestamp};
use std::collections::BTreeMap;

/// Labels or annotations.
pub type StringMap = BTreeMap<String, String>;

/// Metadata of an object, as Kubernetes' `ObjectMeta`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta {
    /// Unique within the namespace and kind.
    pub name: String,
    /// Prefix from which the server makes a name when `name` is empty.
    pub generate_name: String,
    /// Empty for objects without one (Nodes).
    pub namespace: String,
    /// UUID text; empty before the object is created.
    pub uid: String,
    /// Labels: what selectors see.
    pub labels: StringMap,
    /// Annotations: kept and shown.
    pub annotations: StringMap,
    /// Revision of the object's last change; 0 where unknown.
    pub resource_version: Revision,
    /// Raised by one with each change of the spec (M1).
    pub generation: i64,
    /// When the object was created, in the cluster's time.
    pub creation_timestamp: Option<Timestamp>,
    /// When the object will be gone at the latest; set once deletion was asked for.
    pub deletion_timestamp: Option<Timestamp>,
    /// The grace that the deletion gave.
    pub deletion_grace_period_seconds: Option<i64>,
    /// Objects that this one belongs to.
    pub owner_references: Vec<OwnerReference>,
}

/// A reference to an object's owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerReference {
    /// For a Job `batch/v1`.
    pub api_version: String,
    /// For a Job `Job`.
    pub kind: String,
    /// Name of the owner, in the same namespace.
    pub name: String,
    /// Uid of the owner.
    pub uid: String,
    /// True for the one owner that manages the object.
    pub controller: bool,
    /// True if a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Nobody can tell.
    Unknown,
}

impl ConditionStatus {
    /// Kubernetes' text for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

/// A label selector: all requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    /// Labels that must be there with just this value.
    pub match_labels: StringMap,
    /// Further requirements.
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// How the label is compared.
    pub operator: LabelOperator,
    /// What it is compared with; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelOperator {
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}
