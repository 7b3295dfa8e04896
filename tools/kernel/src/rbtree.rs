// SPDX-License-Identifier: GPL-2.0

//! As `kernel::rbtree`: an ordered map whose insertions can fail. A sorted
//! vector of boxes here; each entry costs one allocation, as in the kernel.

use crate::{
    alloc::{inject, Flags},
    error::Result,
};
use std::{boxed::Box, marker::PhantomData, slice};

/// An ordered map.
pub struct RBTree<K, V> {
    nodes: Vec<Box<(K, V)>>,
}

/// An entry outside of a tree.
pub struct RBTreeNode<K, V> {
    node: Box<(K, V)>,
}

/// Memory for an entry.
pub struct RBTreeNodeReservation<K, V>(PhantomData<(K, V)>);

impl<K, V> RBTreeNodeReservation<K, V> {
    /// Allocates it.
    pub fn new(_flags: Flags) -> Result<Self> {
        inject::check()?;
        Ok(Self(PhantomData))
    }

    /// Fills it.
    pub fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode {
            node: Box::new((key, value)),
        }
    }
}

impl<K, V> RBTreeNode<K, V> {
    /// Allocates an entry.
    pub fn new(key: K, value: V, flags: Flags) -> Result<Self> {
        Ok(RBTreeNodeReservation::new(flags)?.into_node(key, value))
    }

    /// Takes it apart.
    pub fn to_key_value(self) -> (K, V) {
        *self.node
    }

    /// Drops the contents, keeps the memory.
    pub fn into_reservation(self) -> RBTreeNodeReservation<K, V> {
        RBTreeNodeReservation(PhantomData)
    }
}

impl<K, V> RBTree<K, V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.nodes.iter())
    }

    /// All entries in order.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut(self.nodes.iter_mut())
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &'_ K> {
        self.iter().map(|(k, _)| k)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &'_ V> {
        self.iter().map(|(_, v)| v)
    }

    /// All values in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &'_ mut V> {
        self.iter_mut().map(|(_, v)| v)
    }

    fn cursor_at(&self, at: usize) -> Option<Cursor<'_, K, V>> {
        (at < self.nodes.len()).then_some(Cursor { tree: self, at })
    }

    fn cursor_mut_at(&mut self, at: usize) -> Option<CursorMut<'_, K, V>> {
        (at < self.nodes.len()).then_some(CursorMut { tree: self, at })
    }

    /// At the first entry.
    pub fn cursor_front_mut(&mut self) -> Option<CursorMut<'_, K, V>> {
        self.cursor_mut_at(0)
    }

    /// At the first entry.
    pub fn cursor_front(&self) -> Option<Cursor<'_, K, V>> {
        self.cursor_at(0)
    }

    /// At the last entry.
    pub fn cursor_back_mut(&mut self) -> Option<CursorMut<'_, K, V>> {
        let last = self.nodes.len().checked_sub(1)?;
        self.cursor_mut_at(last)
    }

    /// At the last entry.
    pub fn cursor_back(&self) -> Option<Cursor<'_, K, V>> {
        self.cursor_at(self.nodes.len().checked_sub(1)?)
    }
}

impl<K: Ord, V> RBTree<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.0.cmp(key))
    }

    /// Inserts a new entry; gives the one with the same key that it replaces.
    pub fn try_create_and_insert(
        &mut self,
        key: K,
        value: V,
        flags: Flags,
    ) -> Result<Option<RBTreeNode<K, V>>> {
        Ok(self.insert(RBTreeNode::new(key, value, flags)?))
    }

    /// Inserts an entry; gives the one with the same key that it replaces.
    pub fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>> {
        match self.find(&node.node.0) {
            Ok(at) => Some(RBTreeNode {
                node: std::mem::replace(&mut self.nodes[at], node.node),
            }),
            Err(at) => {
                self.nodes.insert(at, node.node);
                None
            }
        }
    }

    /// The place of a key.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        match self.find(&key) {
            Ok(at) => Entry::Occupied(OccupiedEntry { tree: self, at }),
            Err(at) => Entry::Vacant(VacantEntry {
                tree: self,
                at,
                key,
            }),
        }
    }

    /// The entry of a key.
    pub fn find_mut(&mut self, key: &K) -> Option<OccupiedEntry<'_, K, V>> {
        let at = self.find(key).ok()?;
        Some(OccupiedEntry { tree: self, at })
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        Some(&self.nodes[self.find(key).ok()?].1)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find_mut(key).map(OccupiedEntry::into_mut)
    }

    /// Takes the entry of a key, with its memory.
    pub fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        self.find_mut(key).map(OccupiedEntry::remove_node)
    }

    /// Takes the value of a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find_mut(key).map(OccupiedEntry::remove)
    }

    /// At the first entry whose key is not below `key`.
    pub fn cursor_lower_bound_mut(&mut self, key: &K) -> Option<CursorMut<'_, K, V>> {
        let at = self.find(key).unwrap_or_else(|at| at);
        self.cursor_mut_at(at)
    }

    /// At the first entry whose key is not below `key`.
    pub fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        self.cursor_at(self.find(key).unwrap_or_else(|at| at))
    }
}

impl<K, V> Default for RBTree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A place in a tree.
pub struct Cursor<'a, K, V> {
    tree: &'a RBTree<K, V>,
    at: usize,
}

impl<K, V> Cursor<'_, K, V> {
    /// The entry here.
    pub fn current(&self) -> (&K, &V) {
        let node = &self.tree.nodes[self.at];
        (&node.0, &node.1)
    }

    /// The entry before.
    pub fn peek_prev(&self) -> Option<(&K, &V)> {
        let node = self.tree.nodes.get(self.at.checked_sub(1)?)?;
        Some((&node.0, &node.1))
    }

    /// The entry behind.
    pub fn peek_next(&self) -> Option<(&K, &V)> {
        let node = self.tree.nodes.get(self.at + 1)?;
        Some((&node.0, &node.1))
    }
}

/// A place in a tree that may be changed there.
pub struct CursorMut<'a, K, V> {
    tree: &'a mut RBTree<K, V>,
    at: usize,
}

impl<K, V> CursorMut<'_, K, V> {
    /// The entry here.
    pub fn current(&self) -> (&K, &V) {
        let node = &self.tree.nodes[self.at];
        (&node.0, &node.1)
    }

    /// The entry here.
    pub fn current_mut(&mut self) -> (&K, &mut V) {
        let node = &mut *self.tree.nodes[self.at];
        (&node.0, &mut node.1)
    }

    /// Takes the entry here and moves to the next, else to the one before.
    pub fn remove_current(self) -> (Option<Self>, RBTreeNode<K, V>) {
        let node = self.tree.nodes.remove(self.at);
        let at = if self.at < self.tree.nodes.len() {
            Some(self.at)
        } else {
            self.at.checked_sub(1)
        };
        let cursor = at.map(|at| Self {
            tree: self.tree,
            at,
        });
        (cursor, RBTreeNode { node })
    }

    /// Takes the entry before.
    pub fn remove_prev(&mut self) -> Option<RBTreeNode<K, V>> {
        self.at = self.at.checked_sub(1)?;
        let node = self.tree.nodes.remove(self.at);
        Some(RBTreeNode { node })
    }

    /// Takes the entry behind.
    pub fn remove_next(&mut self) -> Option<RBTreeNode<K, V>> {
        if self.at + 1 >= self.tree.nodes.len() {
            return None;
        }
        let node = self.tree.nodes.remove(self.at + 1);
        Some(RBTreeNode { node })
    }

    /// To the entry before.
    pub fn move_prev(self) -> Option<Self> {
        let at = self.at.checked_sub(1)?;
        Some(Self {
            tree: self.tree,
            at,
        })
    }

    /// To the entry behind.
    pub fn move_next(self) -> Option<Self> {
        let at = self.at + 1;
        (at < self.tree.nodes.len()).then_some(Self {
            tree: self.tree,
            at,
        })
    }

    /// The entry before.
    pub fn peek_prev(&self) -> Option<(&K, &V)> {
        let node = self.tree.nodes.get(self.at.checked_sub(1)?)?;
        Some((&node.0, &node.1))
    }

    /// The entry behind.
    pub fn peek_next(&self) -> Option<(&K, &V)> {
        let node = self.tree.nodes.get(self.at + 1)?;
        Some((&node.0, &node.1))
    }

    /// The entry before.
    pub fn peek_prev_mut(&mut self) -> Option<(&K, &mut V)> {
        let node = &mut **self.tree.nodes.get_mut(self.at.checked_sub(1)?)?;
        Some((&node.0, &mut node.1))
    }

    /// The entry behind.
    pub fn peek_next_mut(&mut self) -> Option<(&K, &mut V)> {
        let node = &mut **self.tree.nodes.get_mut(self.at + 1)?;
        Some((&node.0, &mut node.1))
    }
}

/// The place of a key, taken or not.
pub enum Entry<'a, K, V> {
    /// There is no entry.
    Vacant(VacantEntry<'a, K, V>),
    /// There is an entry.
    Occupied(OccupiedEntry<'a, K, V>),
}

/// The place of a key that has no entry.
pub struct VacantEntry<'a, K, V> {
    tree: &'a mut RBTree<K, V>,
    at: usize,
    key: K,
}

impl<'a, K, V> VacantEntry<'a, K, V> {
    /// Makes the entry.
    pub fn insert(self, value: V, reservation: RBTreeNodeReservation<K, V>) -> &'a mut V {
        let node = reservation.into_node(self.key, value);
        self.tree.nodes.insert(self.at, node.node);
        &mut self.tree.nodes[self.at].1
    }
}

/// An entry in a tree.
pub struct OccupiedEntry<'a, K, V> {
    tree: &'a mut RBTree<K, V>,
    at: usize,
}

impl<'a, K, V> OccupiedEntry<'a, K, V> {
    /// Its value.
    pub fn get(&self) -> &V {
        &self.tree.nodes[self.at].1
    }

    /// Its value.
    pub fn get_mut(&mut self) -> &mut V {
        &mut self.tree.nodes[self.at].1
    }

    /// Its value.
    pub fn into_mut(self) -> &'a mut V {
        &mut self.tree.nodes[self.at].1
    }

    /// Takes it, with its memory.
    pub fn remove_node(self) -> RBTreeNode<K, V> {
        RBTreeNode {
            node: self.tree.nodes.remove(self.at),
        }
    }

    /// Takes its value.
    pub fn remove(self) -> V {
        self.remove_node().node.1
    }
}

/// All entries in order.
pub struct Iter<'a, K, V>(slice::Iter<'a, Box<(K, V)>>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|node| (&node.0, &node.1))
    }
}

/// All entries in order.
pub struct IterMut<'a, K, V>(slice::IterMut<'a, Box<(K, V)>>);

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|node| {
            let node = &mut **node;
            (&node.0, &mut node.1)
        })
    }
}

impl<'a, K, V> IntoIterator for &'a RBTree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut RBTree<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_lower_bound_cursor_walks_the_rest_in_order() -> Result {
        let mut tree = RBTree::new();
        for key in [5, 1, 9, 3] {
            tree.try_create_and_insert(key, key * 10, GFP_KERNEL)?;
        }
        let mut seen = std::vec::Vec::new();
        let mut cursor = tree.cursor_lower_bound_mut(&2);
        while let Some(here) = cursor {
            seen.push(*here.current().0);
            cursor = here.move_next();
        }
        assert_eq!(seen, [3, 5, 9]);
        Ok(())
    }

    #[test]
    fn a_failed_insertion_leaves_the_tree_as_it_was() -> Result {
        let mut tree = RBTree::new();
        tree.try_create_and_insert(1, (), GFP_KERNEL)?;
        let failing = inject::fail_nth(0);
        assert_eq!(
            tree.try_create_and_insert(2, (), GFP_KERNEL).err(),
            Some(ENOMEM)
        );
        assert!(failing.fired());
        assert_eq!(tree.keys().copied().collect::<std::vec::Vec<_>>(), [1]);
        Ok(())
    }
}
