//! Clusters of this module alone, in memory, with faults on every edge.

mod cluster;
mod random;
