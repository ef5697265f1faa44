//! Numbered places for values, in blocks that never move.

use alloc::vec::Vec;

const BLOCK: usize = 1024;

/// Values under small numbers from 1; 0 is nobody's, for "none".
///
/// It grows block by block: a million znodes are never copied because there is one more.
#[derive(Debug)]
pub(super) struct Slab<T> {
    blocks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(super) fn new() -> Self {
        let mut block = Vec::with_capacity(BLOCK);
        block.push(T::default());
        Self {
            blocks: alloc::vec![block],
            free: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = value;
            return id;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let block = self.blocks.len() - 1;
        let last = self
            .blocks
            .last_mut()
            .expect("a block with room was just made sure of");
        last.push(value);
        u32::try_from(block * BLOCK + last.len() - 1).expect("memory ends before 2^32 znodes")
    }

    pub(super) fn remove(&mut self, id: u32) -> T {
        assert!(id != 0, "0 is nobody's number");
        let value = core::mem::take(self.get_mut(id));
        self.free.push(id);
        value
    }

    pub(super) fn get(&self, id: u32) -> &T {
        let id = id as usize;
        self.blocks
            .get(id / BLOCK)
            .and_then(|block| block.get(id % BLOCK))
            .expect("only numbers that insert gave out are kept")
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        let id = id as usize;
        self.blocks
            .get_mut(id / BLOCK)
            .and_then(|block| block.get_mut(id % BLOCK))
            .expect("only numbers that insert gave out are kept")
    }
}
