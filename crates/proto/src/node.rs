//! Conversion of Nodes.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::meta::{condition_status, metadata};
use crate::time::{timestamp_from_wire, timestamp_to_wire};
use crate::v1;

impl From<api::Node> for v1::Node {
    fn from(node: api::Node) -> v1::Node {
        v1::Node {
            metadata: Some(node.metadata.into()),
            spec: Some(v1::NodeSpec { unschedulable: node.unschedulable }),
            status: Some(v1::NodeStatus {
                capacity: Some(node.capacity.into()),
                conditions: node.conditions.into_iter().map(Into::into).collect(),
                requested: Some(node.requested.into()),
                node_uid: node.node_uid,
                boot_id: node.boot_id,
                incarnation: node.incarnation.0,
                runtimes: node.runtimes,
                agent_version: node.agent_version,
                features: node.features,
                info: Some(node.info.into()),
            }),
        }
    }
}

impl TryFrom<v1::Node> for api::Node {
    type Error = ConversionError;

    fn try_from(node: v1::Node) -> Result<api::Node, ConversionError> {
        let status = node.status.unwrap_or_default();
        Ok(api::Node {
            metadata: metadata(node.metadata)?,
            unschedulable: node.spec.unwrap_or_default().unschedulable,
            capacity: status.capacity.unwrap_or_default().into(),
            requested: status.requested.unwrap_or_default().into(),
            conditions: each("conditions", status.conditions, TryInto::try_into).within("status")?,
            node_uid: status.node_uid,
            boot_id: status.boot_id,
            incarnation: api::Incarnation(status.incarnation),
            runtimes: status.runtimes,
            agent_version: status.agent_version,
            features: status.features,
            info: status.info.unwrap_or_default().into(),
        })
    }
}

impl From<api::NodeInfo> for v1::NodeInfo {
    fn from(info: api::NodeInfo) -> v1::NodeInfo {
        v1::NodeInfo {
            kernel_version: info.kernel_version,
            os_image: info.os_image,
            operating_system: info.operating_system,
            architecture: info.architecture,
            addresses: info.addresses,
        }
    }
}

impl From<v1::NodeInfo> for api::NodeInfo {
    fn from(info: v1::NodeInfo) -> api::NodeInfo {
        api::NodeInfo {
            kernel_version: info.kernel_version,
            os_image: info.os_image,
            operating_system: info.operating_system,
            architecture: info.architecture,
            addresses: info.addresses,
        }
    }
}

impl From<api::NodeCapacity> for v1::NodeCapacity {
    fn from(capacity: api::NodeCapacity) -> v1::NodeCapacity {
        v1::NodeCapacity {
            cpu_millis: capacity.cpu_millis,
            memory_bytes: capacity.memory_bytes,
            pods: capacity.pods,
        }
    }
}

impl From<v1::NodeCapacity> for api::NodeCapacity {
    fn from(capacity: v1::NodeCapacity) -> api::NodeCapacity {
        api::NodeCapacity {
            cpu_millis: capacity.cpu_millis,
            memory_bytes: capacity.memory_bytes,
            pods: capacity.pods,
        }
    }
}

impl From<api::NodeCondition> for v1::NodeCondition {
    fn from(condition: api::NodeCondition) -> v1::NodeCondition {
        v1::NodeCondition {
            r#type: condition.condition_type,
            status: v1::ConditionStatus::from(condition.status).into(),
            last_transition_time: condition.last_transition_time.map(timestamp_to_wire),
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl TryFrom<v1::NodeCondition> for api::NodeCondition {
    type Error = ConversionError;

    fn try_from(condition: v1::NodeCondition) -> Result<api::NodeCondition, ConversionError> {
        Ok(api::NodeCondition {
            condition_type: condition.r#type,
            status: condition_status(condition.status)?,
            last_transition_time: timestamp_from_wire("lastTransitionTime", condition.last_transition_time)?,
            reason: condition.reason,
            message: condition.message,
        })
    }
}
