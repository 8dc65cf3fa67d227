//! How a Pod is run on a host.
