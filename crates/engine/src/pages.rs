//! The pages of the KV cache: who holds each, and which are free.
//!
//! A page is held by the sequences whose tables have it and by the prefix tree. It is free when
//! nobody holds it; when the tree alone does, it is *cached* and makes room on demand.

/// Pages and their holders.
#[derive(Debug)]
pub struct PagePool {
    /// Holders of each page, the tree among them.
    holders: Vec<u32>,
    /// Whether the tree is one of them.
    in_tree: Vec<bool>,
    free: Vec<u32>,
    n_cached: usize,
}

impl PagePool {
    /// So many free pages.
    pub fn new(n_pages: usize) -> Self {
        let free = (0..n_pages as u32).rev().collect();
        Self { holders: vec![0; n_pages], in_tree: vec![false; n_pages], free, n_cached: 0 }
    }

    /// A free page, held by the caller now.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.holders[page as usize] = 1;
        Some(page)
    }

    /// Holds a page that somebody holds already.
    pub fn share(&mut self, page: u32) {
        self.n_cached -= usize::from(self.is_cached(page));
        self.holders[page as usize] += 1;
        assert!(self.holders[page as usize] > 1, "page {page} was free");
    }

    /// Holds a page for the tree.
    pub fn share_with_tree(&mut self, page: u32) {
        assert!(!self.in_tree[page as usize], "page {page} is in the tree already");
        self.share(page);
        self.in_tree[page as usize] = true;
    }

    /// Lets a page go.
    pub fn release(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        assert!(*holders > u32::from(self.in_tree[page as usize]), "page {page} has no holder");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
        self.n_cached += usize::from(self.is_cached(page));
    }

    /// Takes a page from the tree.
    pub fn release_from_tree(&mut self, page: u32) {
        assert!(self.in_tree[page as usize], "page {page} is not in the tree");
        self.n_cached -= usize::from(self.is_cached(page));
        self.in_tree[page as usize] = false;
        self.release(page);
    }

    /// Whether the tree alone holds a page.
    pub fn is_cached(&self, page: u32) -> bool {
        self.in_tree[page as usize] && self.holders[page as usize] == 1
    }

    /// All pages.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Free pages.
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Pages that the tree alone holds.
    pub fn n_cached(&self) -> usize {
        self.n_cached
    }

    /// Holders of a page, the tree not among them.
    pub fn holders_beside_tree(&self, page: u32) -> u32 {
        self.holders[page as usize] - u32::from(self.in_tree[page as usize])
    }

    /// Holders of a page, the tree among them.
    pub fn holders(&self, page: u32) -> u32 {
        self.holders[page as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves B-8 (of keys and values: nothing need ever be moved to one side)
    #[test]
    fn whatever_is_free_can_be_taken_in_any_order_of_releases() {
        let mut pool = PagePool::new(64);
        let held: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        // Every other page: of a memory in one piece, half would be free and none of two pages.
        held.iter().step_by(2).for_each(|&page| pool.release(page));
        let n_free = pool.n_free();
        let n_taken = std::iter::from_fn(|| pool.take()).count();
        let fragmentation = 1.0 - n_taken as f64 / n_free as f64;
        assert_eq!((held.len(), n_free, fragmentation), (64, 32, 0.0));
    }

    #[test]
    fn pages_are_free_cached_or_held() {
        let mut pool = PagePool::new(2);
        let page = pool.take().unwrap();
        pool.share_with_tree(page);
        assert_eq!((pool.n_free(), pool.n_cached()), (1, 0));
        pool.release(page);
        assert_eq!((pool.n_free(), pool.n_cached()), (1, 1));
        pool.share(page);
        assert_eq!((pool.n_cached(), pool.holders(page)), (0, 2));
        pool.release_from_tree(page);
        assert_eq!((pool.n_free(), pool.n_cached()), (1, 0));
        pool.release(page);
        assert_eq!(pool.n_free(), 2);
        assert!(pool.take().is_some() && pool.take().is_some() && pool.take().is_none());
    }
}
