//! The public gRPC wire and its conversions.
