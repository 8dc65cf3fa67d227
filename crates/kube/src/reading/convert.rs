//! What all conversions share: refusing fields, reading metadata, quantities and selectors.
//!
//! Owns: the texts with which fields are refused. Does not own: which field is refused.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Serialize;
use stint_api::{
    FieldError, LabelOperator, LabelRequirement, LabelSelector, ObjectMeta, OwnerReference, Quantity,
    Revision,
};

use super::manifest::relative;
use super::tree::Node;
use crate::error::{ManifestError, ManifestProblem};

/// The fields of one object that can't be accepted.
pub(super) struct Refusals {
    /// Path of the object.
    path: String,
    errors: Vec<FieldError>,
}

impl Refusals {
    pub fn new(path: &str) -> Refusals {
        Refusals { path: path.to_owned(), errors: Vec::new() }
    }

    /// A field that a later version honours.
    pub fn not_yet(&mut self, field: &str) {
        self.push(FieldError::forbidden(field, "not supported yet: leave it out"));
    }

    /// A field that nobody means to honour.
    pub fn never(&mut self, field: &str) {
        self.push(FieldError::forbidden(field, "not supported: leave it out"));
    }

    /// Any other error.
    pub fn push(&mut self, mut error: FieldError) {
        if !self.path.is_empty() {
            error.field = format!("{}.{}", self.path, error.field);
        }
        self.errors.push(error);
    }

    /// The errors, with the places of their fields in the object.
    pub fn located(self, node: &Node) -> Vec<ManifestError> {
        let located = |error: FieldError| ManifestError {
            position: node.locate(relative(&error.field, &self.path)),
            problem: ManifestProblem::Field(error),
        };
        self.errors.into_iter().map(located).collect()
    }
}

/// How a value looks that has the same effect as none.
pub(super) trait IsDefault {
    fn is_default(&self) -> bool;
}

impl IsDefault for String {
    fn is_default(&self) -> bool {
        self.is_empty()
    }
}

impl IsDefault for bool {
    fn is_default(&self) -> bool {
        !self
    }
}

impl<T> IsDefault for Vec<T> {
    fn is_default(&self) -> bool {
        self.is_empty()
    }
}

/// True if the field is given and says more than its default.
pub(super) fn says<T: IsDefault>(field: &Option<T>) -> bool {
    field.as_ref().is_some_and(|value| !value.is_default())
}

/// True if the object is given and says anything: `{}` and `null` do not.
pub(super) fn says_object<T: Default + PartialEq>(field: &Option<T>) -> bool {
    field.as_ref().is_some_and(|value| *value != T::default())
}

/// What was given, if it says anything.
pub(super) fn stated<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

/// The one choice that was made; noted if it was none or several. `several` is told the name of one that is too many.
pub(super) fn only_one<T, const N: usize>(
    choices: [(&str, Option<T>); N],
    none: impl FnOnce() -> FieldError,
    several: impl Fn(&str) -> FieldError,
    refusals: &mut Refusals,
) -> Option<T> {
    let mut made = choices.into_iter().filter_map(|(name, choice)| Some((name, choice?)));
    let Some((_, first)) = made.next() else {
        refusals.push(none());
        return None;
    };
    if let Some((surplus, _)) = made.next() {
        refusals.push(several(surplus));
        return None;
    }
    Some(first)
}

/// Keeps a field that has no effect: its JSON under its name.
pub(super) fn keep<T: Serialize>(kept: &mut BTreeMap<String, String>, name: &str, field: Option<T>) {
    let text = field.and_then(|value| serde_json::to_string(&value).ok());
    if let Some(text) = text.filter(|text| !matches!(text.as_str(), "[]" | "{}" | "\"\"" | "null")) {
        kept.insert(name.to_owned(), text);
    }
}

/// Metadata of a request: what the server sets is not looked at, but for the preconditions.
pub(super) fn metadata(from: meta::ObjectMeta, refusals: &mut Refusals) -> ObjectMeta {
    let meta::ObjectMeta {
        annotations,
        creation_timestamp: _,
        deletion_grace_period_seconds: _,
        deletion_timestamp: _,
        finalizers,
        generate_name,
        generation: _,
        labels,
        managed_fields: _,
        name,
        namespace,
        owner_references,
        resource_version,
        self_link: _,
        uid,
    } = from;
    if says(&finalizers) {
        refusals.never("metadata.finalizers");
    }
    let resource_version = resource_version.filter(|text| !text.is_empty());
    let revision = resource_version.map_or(Ok(0), |text| text.parse::<u64>().map_err(|_| text));
    let revision = revision.unwrap_or_else(|text| {
        let detail = "must be a number that the server gave, or absent";
        refusals.push(FieldError::invalid_text("metadata.resourceVersion", &text, detail));
        0
    });
    ObjectMeta {
        name: name.unwrap_or_default(),
        generate_name: generate_name.unwrap_or_default(),
        namespace: namespace.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        annotations: annotations.unwrap_or_default(),
        resource_version: Revision(revision),
        owner_references: owner_references.unwrap_or_default().into_iter().map(owner_reference).collect(),
        ..ObjectMeta::default()
    }
}

fn owner_reference(from: meta::OwnerReference) -> OwnerReference {
    OwnerReference {
        api_version: from.api_version,
        kind: from.kind,
        name: from.name,
        uid: from.uid,
        controller: from.controller.unwrap_or(false),
        block_owner_deletion: from.block_owner_deletion.unwrap_or(false),
    }
}

pub(super) fn selector(from: meta::LabelSelector, field: &str, refusals: &mut Refusals) -> LabelSelector {
    let mut match_expressions = Vec::new();
    for (index, requirement) in from.match_expressions.unwrap_or_default().into_iter().enumerate() {
        let operator = match requirement.operator.as_str() {
            "In" => LabelOperator::In,
            "NotIn" => LabelOperator::NotIn,
            "Exists" => LabelOperator::Exists,
            "DoesNotExist" => LabelOperator::DoesNotExist,
            other => {
                let field = format!("{field}.matchExpressions[{index}].operator");
                refusals.push(FieldError::unsupported(
                    field,
                    other,
                    &["In", "NotIn", "Exists", "DoesNotExist"],
                ));
                continue;
            }
        };
        let values = requirement.values.unwrap_or_default();
        match_expressions.push(LabelRequirement { key: requirement.key, operator, values });
    }
    LabelSelector { match_labels: from.match_labels.unwrap_or_default(), match_expressions }
}

pub(super) fn quantities(
    from: Option<BTreeMap<String, resource::Quantity>>,
    field: &str,
    refusals: &mut Refusals,
) -> BTreeMap<String, Quantity> {
    let mut quantities = BTreeMap::new();
    for (name, amount) in from.unwrap_or_default() {
        if let Some(parsed) = quantity(Some(amount), &format!("{field}[{name}]"), refusals) {
            quantities.insert(name, parsed);
        }
    }
    quantities
}

pub(super) fn quantity(
    from: Option<resource::Quantity>,
    field: &str,
    refusals: &mut Refusals,
) -> Option<Quantity> {
    let text = from?.0;
    match Quantity::parse(&text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            refusals.push(FieldError::invalid_text(field, &text, error.to_string()));
            None
        }
    }
}
