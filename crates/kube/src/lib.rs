//! Kubernetes JSON and YAML from and to the API types.
