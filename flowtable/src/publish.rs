//! Hands snapshots from the publisher to the workers.
