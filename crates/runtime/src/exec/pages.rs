//! Pages of the KV cache, for callers who hand them out.

use super::Runner;

impl Runner {
    /// Copies a page of the KV cache to another, for sequences that part within a page.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        self.kv.copy_page(from, to);
    }

    /// A page's keys and values as they lie in memory, the same on every ISA.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page(&self, page: u32) -> &[u8] {
        self.kv.page(page)
    }

    /// The same, to put back what [`Runner::page`] gave, here or in another process with the same
    /// model and settings.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page_mut(&mut self, page: u32) -> &mut [u8] {
        self.kv.page_mut(page)
    }
}
