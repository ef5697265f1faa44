//! ZAB: one server's part in an ensemble that agrees on an order of transactions.
//!
//! Payloads are opaque: nothing here has heard of znodes or sessions. It knows zxids, epochs, who
//! votes, and what is durable; it says what to send, to store and, in the end, to apply.
//!
//! The rule that a dozen of ZooKeeper's bugs broke (reliability B.1) is kept by construction: an
//! acknowledgement can only be made from a `Durable`, which only the store's confirmation makes.
//!
//! ```text
//! log durable -> currentEpoch durable -> ACK NEWLEADER -> other ACKs -> deliver -> serve
//! ```
//!
//! Start reading at [`Zab`]: `election` finds a leader, then `leader` or `learner` has its turn.

pub mod io;
pub mod membership;
mod outbox;
mod stub;
pub use stub::Zab;
pub mod quorum;

pub use io::{Event, MembershipOp, Options, Output, Recovered, Role};
pub use membership::{Member, Membership};
pub use outbox::Outbox;
pub use quorum::Views;
