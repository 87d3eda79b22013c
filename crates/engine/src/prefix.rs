//! The prefix tree: which token prefixes have their keys and values in pages.
//!
//! A node is a page's worth of tokens below the tokens of its ancestors; a leaf may be shorter than
//! a page. Tokens are compared as they are, so that two prefixes never pass for one another. A
//! sequence whose tokens are found shares the pages of whole nodes and copies the beginning of one
//! more. Keys of nodes begin with whose page it is, so that private pages are found by their owner
//! alone.

use crate::pages::PagePool;
use crate::salt::Salt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;
use sterna_runtime::settings::PAGE_LEN;

/// A node: stands for the tokens from the root to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

impl NodeId {
    /// Before all tokens.
    pub const ROOT: Self = Self(0);
}

struct Node {
    /// Whose it is, as [`Salt::head`] has it, then its tokens: a page's, or fewer in a leaf.
    key: Box<[u32]>,
    /// `None` in the root.
    page: Option<u32>,
    parent: Option<NodeId>,
    /// By their keys, so that neighbours in order share the longest beginnings.
    children: BTreeMap<Box<[u32]>, NodeId>,
    /// When it was last used, as a count of uses.
    used: u64,
}

/// The tree.
pub struct PrefixTree {
    nodes: Vec<Option<Node>>,
    vacant: Vec<usize>,
    uses: u64,
}

impl Default for PrefixTree {
    fn default() -> Self {
        let root = Node {
            key: Box::default(),
            page: None,
            parent: None,
            children: BTreeMap::new(),
            used: 0,
        };
        Self { nodes: vec![Some(root)], vacant: Vec::new(), uses: 0 }
    }
}

/// What the tree has of some tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The node of the last whole page.
    pub node: NodeId,
    /// The whole pages, in order.
    pub pages: Vec<u32>,
    /// A page whose first positions are those of the next tokens, and how many.
    pub partial: Option<(u32, usize)>,
}

impl Match {
    /// Tokens that need not be computed.
    pub fn n_tokens(&self) -> usize {
        self.pages.len() * PAGE_LEN + self.partial.map_or(0, |(_, n)| n)
    }
}

impl PrefixTree {
    /// The longest beginning of `tokens` that the tree has, of the pages that `salt` finds.
    pub fn find(&mut self, salt: &Salt, tokens: &[u32]) -> Match {
        self.uses += 1;
        let (mut node, mut pages, mut rest) = (NodeId::ROOT, Vec::new(), tokens);
        while let Some((page, after)) = rest.split_at_checked(PAGE_LEN)
            && let Some(child) = self.child(node, &[salt.head(pages.len()), page].concat())
        {
            self.touch(child);
            pages.extend(self.node(child).page);
            (node, rest) = (child, after);
        }
        let partial = self.nearest(node, salt.head(pages.len()), rest).filter(|&(_, n)| n > 0);
        let partial = partial.map(|(child, n)| {
            self.touch(child);
            (self.page(child), n)
        });
        Match { node, pages, partial }
    }

    fn child(&self, node: NodeId, key: &[u32]) -> Option<NodeId> {
        self.node(node).children.get(key).copied()
    }

    /// The child of the same head that begins most like `tokens`, and in how many of them.
    fn nearest(&self, node: NodeId, head: &[u32], tokens: &[u32]) -> Option<(NodeId, usize)> {
        let key = &*[head, tokens].concat();
        let children = &self.node(node).children;
        let mut below = children.range::<[u32], _>((Bound::Unbounded, Bound::Included(key)));
        let mut above = children.range::<[u32], _>((Bound::Excluded(key), Bound::Unbounded));
        let near = below.next_back().into_iter().chain(above.next());
        let of_head = near.filter(|(other, _)| other.starts_with(head));
        let alike = of_head.map(|(other, &child)| (child, common(other, key) - head.len()));
        alike.max_by_key(|&(_, n)| n)
    }

    /// Notes that `page` holds `tokens` (at most a page's) after `parent`, in a page of `head`'s.
    /// The page that the tree has for these tokens is returned: this one, or one that was there
    /// before.
    ///
    /// Tokens that are fewer than a page's are noted only where no other child begins with them.
    pub fn insert(
        &mut self,
        pool: &mut PagePool,
        parent: NodeId,
        head: &[u32],
        tokens: &[u32],
        page: u32,
    ) -> (NodeId, u32) {
        assert!(!tokens.is_empty() && tokens.len() <= PAGE_LEN);
        self.uses += 1;
        if let Some((child, n)) = self.nearest(parent, head, tokens)
            && n == tokens.len()
        {
            self.touch(child);
            return (child, self.page(child));
        }
        pool.share_with_tree(page);
        let (key, used) = (Box::<[u32]>::from([head, tokens].concat()), self.uses);
        let child = self.add(Node {
            key: key.clone(),
            page: Some(page),
            parent: Some(parent),
            children: BTreeMap::new(),
            used,
        });
        self.node_mut(parent).children.insert(key, child);
        (child, page)
    }

    /// Lets go of leaves that nobody else holds until `n_pages` are free, the least recently used
    /// first; whether there were enough.
    pub fn make_room(&mut self, pool: &mut PagePool, n_pages: usize) -> bool {
        if pool.n_free() >= n_pages {
            return true;
        }
        let leaf = |id: &NodeId| self.is_evictable(pool, *id);
        let by_use = |id: NodeId| Reverse((self.node(id).used, id));
        let mut leaves: BinaryHeap<_> = self.ids().filter(leaf).map(by_use).collect();
        while pool.n_free() < n_pages {
            let Some(Reverse((_, leaf))) = leaves.pop() else { return false };
            let parent = self.node(leaf).parent.expect("the root is not evictable");
            self.remove(pool, leaf);
            if self.is_evictable(pool, parent) {
                leaves.push(Reverse((self.node(parent).used, parent)));
            }
        }
        true
    }

    fn is_evictable(&self, pool: &PagePool, id: NodeId) -> bool {
        let node = self.node(id);
        node.children.is_empty() && node.page.is_some_and(|page| pool.is_cached(page))
    }

    /// Forgets everything that nobody else holds.
    pub fn clear(&mut self, pool: &mut PagePool) {
        while pool.n_cached() > 0 && self.make_room(pool, pool.n_free() + 1) {}
    }

    /// Removes a leaf.
    pub fn remove(&mut self, pool: &mut PagePool, id: NodeId) {
        let node = self.nodes[id.0].take().expect("ids are of nodes that are there");
        assert!(node.children.is_empty(), "only leaves are removed");
        self.vacant.push(id.0);
        let parent = node.parent.expect("the root stays");
        self.node_mut(parent).children.remove(&node.key);
        pool.release_from_tree(node.page.expect("only the root has no page"));
    }

    /// Pages that the tree holds.
    pub fn pages(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().flatten().filter_map(|node| node.page)
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].is_some()).map(NodeId)
    }

    fn add(&mut self, node: Node) -> NodeId {
        match self.vacant.pop() {
            Some(at) => {
                self.nodes[at] = Some(node);
                NodeId(at)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() - 1)
            }
        }
    }

    fn page(&self, id: NodeId) -> u32 {
        self.node(id).page.expect("only the root has no page")
    }

    fn touch(&mut self, id: NodeId) {
        let uses = self.uses;
        self.node_mut(id).used = uses;
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.0].as_ref().expect("ids are of nodes that are there")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0].as_mut().expect("ids are of nodes that are there")
    }
}

/// How many tokens two lists begin with alike.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
