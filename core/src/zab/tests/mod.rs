//! Clusters of this module alone, in memory, with faults on every edge.

mod cluster;
mod hostile;
mod lone;
mod random;
mod reconfig;
mod scripted;
