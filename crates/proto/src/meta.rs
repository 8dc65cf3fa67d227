//! Conversion of metadata, selectors and condition statuses.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::time::{timestamp_from_wire, timestamp_to_wire};
use crate::v1;

const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];
const CONDITION_STATUSES: &[&str] = &["True", "False", "Unknown"];

impl From<api::ObjectMeta> for v1::ObjectMeta {
    fn from(meta: api::ObjectMeta) -> v1::ObjectMeta {
        v1::ObjectMeta {
            name: meta.name,
            generate_name: meta.generate_name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version.0,
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp.map(timestamp_to_wire),
            deletion_timestamp: meta.deletion_timestamp.map(timestamp_to_wire),
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ObjectMeta> for api::ObjectMeta {
    type Error = ConversionError;

    fn try_from(meta: v1::ObjectMeta) -> Result<api::ObjectMeta, ConversionError> {
        Ok(api::ObjectMeta {
            name: meta.name,
            generate_name: meta.generate_name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: api::Revision(meta.resource_version),
            generation: meta.generation,
            creation_timestamp: timestamp_from_wire("creationTimestamp", meta.creation_timestamp)?,
            deletion_timestamp: timestamp_from_wire("deletionTimestamp", meta.deletion_timestamp)?,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<api::OwnerReference> for v1::OwnerReference {
    fn from(owner: api::OwnerReference) -> v1::OwnerReference {
        v1::OwnerReference {
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
            api_version: owner.api_version,
            controller: owner.controller,
            block_owner_deletion: owner.block_owner_deletion,
        }
    }
}

impl From<v1::OwnerReference> for api::OwnerReference {
    fn from(owner: v1::OwnerReference) -> api::OwnerReference {
        api::OwnerReference {
            api_version: owner.api_version,
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
            controller: owner.controller,
            block_owner_deletion: owner.block_owner_deletion,
        }
    }
}

impl From<api::LabelSelector> for v1::LabelSelector {
    fn from(selector: api::LabelSelector) -> v1::LabelSelector {
        v1::LabelSelector {
            match_labels: selector.match_labels,
            match_expressions: selector.match_expressions.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::LabelSelector> for api::LabelSelector {
    type Error = ConversionError;

    fn try_from(selector: v1::LabelSelector) -> Result<api::LabelSelector, ConversionError> {
        Ok(api::LabelSelector {
            match_labels: selector.match_labels,
            match_expressions: each("matchExpressions", selector.match_expressions, TryInto::try_into)?,
        })
    }
}

impl From<api::LabelRequirement> for v1::LabelSelectorRequirement {
    fn from(requirement: api::LabelRequirement) -> v1::LabelSelectorRequirement {
        let operator = match requirement.operator {
            api::LabelOperator::In => "In",
            api::LabelOperator::NotIn => "NotIn",
            api::LabelOperator::Exists => "Exists",
            api::LabelOperator::DoesNotExist => "DoesNotExist",
        };
        v1::LabelSelectorRequirement {
            key: requirement.key,
            operator: operator.to_owned(),
            values: requirement.values,
        }
    }
}

impl TryFrom<v1::LabelSelectorRequirement> for api::LabelRequirement {
    type Error = ConversionError;

    fn try_from(requirement: v1::LabelSelectorRequirement) -> Result<api::LabelRequirement, ConversionError> {
        let operator = match requirement.operator.as_str() {
            "In" => api::LabelOperator::In,
            "NotIn" => api::LabelOperator::NotIn,
            "Exists" => api::LabelOperator::Exists,
            "DoesNotExist" => api::LabelOperator::DoesNotExist,
            _ => return Err(ConversionError::unsupported("operator", requirement.operator, OPERATORS)),
        };
        Ok(api::LabelRequirement { key: requirement.key, operator, values: requirement.values })
    }
}

impl From<api::ConditionStatus> for v1::ConditionStatus {
    fn from(status: api::ConditionStatus) -> v1::ConditionStatus {
        match status {
            api::ConditionStatus::True => v1::ConditionStatus::True,
            api::ConditionStatus::False => v1::ConditionStatus::False,
            api::ConditionStatus::Unknown => v1::ConditionStatus::Unknown,
        }
    }
}

/// The status of a condition; `status` is the number on the wire.
pub(crate) fn condition_status(status: i32) -> Result<api::ConditionStatus, ConversionError> {
    match v1::ConditionStatus::try_from(status) {
        Ok(v1::ConditionStatus::True) => Ok(api::ConditionStatus::True),
        Ok(v1::ConditionStatus::False) => Ok(api::ConditionStatus::False),
        Ok(v1::ConditionStatus::Unknown) => Ok(api::ConditionStatus::Unknown),
        Ok(v1::ConditionStatus::Unspecified) | Err(_) => {
            Err(ConversionError::unsupported("status", status.to_string(), CONDITION_STATUSES))
        }
    }
}

/// Metadata that may be left out: an object without it has none of its fields set.
pub(crate) fn metadata(meta: Option<v1::ObjectMeta>) -> Result<api::ObjectMeta, ConversionError> {
    meta.unwrap_or_default().try_into().within("metadata")
}
