//! Connections on tokio: what turns sockets into [`LinkInput`](zabra_core::link::LinkInput) and
//! performs [`LinkOutput`](zabra_core::link::LinkOutput).
//!
//! Everything lives on the one thread of a `LocalRuntime`: one small task per connection, one read
//! buffer for all of them, no locks. It knows no frame, no session and no machine. Start reading at
//! [`Links`].

mod complaints;
mod dial;
mod gauges;
mod link;
mod links;
mod listen;
mod peers;
mod queue;
mod resolve;
mod securing;
mod session;

pub use gauges::Gauges;
pub use links::Links;
pub(crate) use listen::Accepting;
pub use listen::{BindError, ListenOptions, Listeners};
pub(crate) use peers::PeerPorts;
pub use peers::{PeerBindError, PeerOptions};
pub use securing::{Accept, PeerTls};
