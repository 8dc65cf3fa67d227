//! Replication: openraft, RocksDB, peer transport, linearizable reads.
