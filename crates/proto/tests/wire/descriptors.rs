//! What reflection shows: complete, and every part of it documented.

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;

/// Numbers of fields in `descriptor.proto`, of which paths of locations are made.
mod tag {
    pub const FILE_MESSAGE: i32 = 4;
    pub const FILE_ENUM: i32 = 5;
    pub const FILE_SERVICE: i32 = 6;
    pub const MESSAGE_FIELD: i32 = 2;
    pub const MESSAGE_NESTED: i32 = 3;
    pub const MESSAGE_ENUM: i32 = 4;
    pub const MESSAGE_ONEOF: i32 = 8;
    pub const ENUM_VALUE: i32 = 2;
    pub const SERVICE_METHOD: i32 = 2;
}

fn files() -> Vec<FileDescriptorProto> {
    FileDescriptorSet::decode(stint_proto::FILE_DESCRIPTOR_SET).expect("the build made it").file
}

#[test]
fn all_services_are_there_with_all_that_they_import() {
    let files = files();
    let services: BTreeSet<_> = files
        .iter()
        .flat_map(|file| {
            file.service.iter().map(move |service| format!("{}.{}", file.package(), service.name()))
        })
        .collect();
    let expected = ["Agent", "Cluster", "ConfigMaps", "Events", "Insight", "Jobs", "Nodes", "Pods"]
        .map(|service| format!("stint.v1.{service}"));
    assert_eq!(services, BTreeSet::from(expected));

    let names: BTreeSet<_> = files.iter().map(FileDescriptorProto::name).collect();
    for file in &files {
        for import in &file.dependency {
            assert!(names.contains(import.as_str()), "{} imports {import}", file.name());
        }
    }
}

#[test]
fn every_message_field_value_and_method_is_documented() {
    let mut undocumented = Vec::new();
    for file in files().iter().filter(|file| file.package() == "stint.v1") {
        let documented: BTreeSet<Vec<i32>> = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.clone())
            .collect();
        for (path, name) in documentable(file) {
            if !documented.contains(&path) {
                undocumented.push(format!("{}: {name}", file.name()));
            }
        }
    }
    assert_eq!(undocumented, Vec::<String>::new());
}

/// Path and name of everything that people may look up.
fn documentable(file: &FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let mut parts = Vec::new();
    for (index, message) in file.message_type.iter().enumerate() {
        add_message(&mut parts, &[tag::FILE_MESSAGE, index as i32], message);
    }
    for (index, enumeration) in file.enum_type.iter().enumerate() {
        add_enum(&mut parts, &[tag::FILE_ENUM, index as i32], enumeration);
    }
    for (index, service) in file.service.iter().enumerate() {
        let path = [tag::FILE_SERVICE, index as i32];
        parts.push((path.to_vec(), service.name().to_owned()));
        for (method_index, method) in service.method.iter().enumerate() {
            let name = format!("{}.{}", service.name(), method.name());
            parts.push((below(&path, tag::SERVICE_METHOD, method_index), name));
        }
    }
    assert!(!parts.is_empty(), "{} defines nothing", file.name());
    parts
}

fn add_message(parts: &mut Vec<(Vec<i32>, String)>, path: &[i32], message: &DescriptorProto) {
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    parts.push((path.to_vec(), message.name().to_owned()));
    for (index, field) in message.field.iter().enumerate() {
        let name = format!("{}.{}", message.name(), field.name());
        parts.push((below(path, tag::MESSAGE_FIELD, index), name));
    }
    for (index, oneof) in message.oneof_decl.iter().enumerate() {
        // The compiler wraps each `optional` field in a oneof of its own, which nobody wrote.
        let synthetic = message
            .field
            .iter()
            .any(|field| field.proto3_optional() && field.oneof_index == Some(index as i32));
        if !synthetic {
            let name = format!("{}.{}", message.name(), oneof.name());
            parts.push((below(path, tag::MESSAGE_ONEOF, index), name));
        }
    }
    for (index, nested) in message.nested_type.iter().enumerate() {
        add_message(parts, &below(path, tag::MESSAGE_NESTED, index), nested);
    }
    for (index, enumeration) in message.enum_type.iter().enumerate() {
        add_enum(parts, &below(path, tag::MESSAGE_ENUM, index), enumeration);
    }
}

fn add_enum(parts: &mut Vec<(Vec<i32>, String)>, path: &[i32], enumeration: &EnumDescriptorProto) {
    parts.push((path.to_vec(), enumeration.name().to_owned()));
    for (index, value) in enumeration.value.iter().enumerate() {
        let name = format!("{}.{}", enumeration.name(), value.name());
        parts.push((below(path, tag::ENUM_VALUE, index), name));
    }
}

fn below(path: &[i32], tag: i32, index: usize) -> Vec<i32> {
    [path, &[tag, index as i32]].concat()
}
