//! ZooKeeper's record encoding, Jute, as a serde format: big-endian numbers, length-prefixed
//! strings, buffers and vectors, -1 as the length of a null, records as the plain sequence of their
//! fields.
//!
//! Reading borrows from its input and checks every length against what is there before it
//! allocates. Source: `org.apache.jute.Binary{Input,Output}Archive`.

mod de;
mod ser;
mod text;

pub use de::{Error, Reader, take};
pub use ser::{append, to_vec};
pub use text::Text;
