//! End-to-end tests of stint live in the test targets of this package.
