//! stub
#![allow(missing_docs, unused, clippy::all)]
use super::membership::Membership;
use super::*;
use crate::ids::*;
use crate::lane::*;
use crate::link::*;
use crate::wire::records::Id;
use alloc::vec::Vec;
use bytes::Bytes;
pub struct Zab;
impl Zab {
    pub fn new(options: Options, recovered: Recovered, entropy: u64, now: Instant) -> Self {
        Self
    }
    pub fn begin(&mut self, now: Instant) {}
    pub fn link(&mut self, l: LinkId, i: LinkInput) {}
    pub fn owns(&self, l: LinkId) -> bool {
        false
    }
    pub fn stored(&mut self, upto: Seq) {}
    pub fn tick(&mut self) {}
    pub fn next_wake(&self) -> Option<Instant> {
        None
    }
    pub fn store(&mut self, op: StoreOp) -> Seq {
        Seq(0)
    }
    pub fn take_outputs(&mut self) -> Vec<Output> {
        Vec::new()
    }
    pub fn next_zxid(&self) -> Option<Zxid> {
        None
    }
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, membership: Option<Membership>) {}
    pub fn can_reconfigure_to(&self, m: &Membership) -> bool {
        false
    }
    pub fn membership(&self) -> (&Membership, Option<&Membership>) {
        panic!()
    }
    pub fn answer_sync(&mut self, l: LinkId) {}
    pub fn drop_learner(&mut self, l: LinkId, r: &str) {}
    pub fn revalidated(&mut self, l: LinkId, b: Bytes) {}
    pub fn snapshot_begin(&mut self, l: LinkId, z: Zxid) {}
    pub fn snapshot_chunk(&mut self, l: LinkId, z: Bytes) {}
    pub fn snapshot_end(&mut self, l: LinkId) {}
    pub fn snapshot_room(&self, l: LinkId) -> Option<usize> {
        None
    }
    pub fn request(&mut self, data: Bytes, ids: Option<Vec<Id>>) {}
    pub fn revalidate(&mut self, b: Bytes) {}
    pub fn pong(&mut self, b: Bytes) {}
    pub fn snapshot_loaded(&mut self, b: Bytes) {}
    pub fn snapshot_stored(&mut self, z: Zxid) {}
    pub fn sync(&mut self) {}
}
