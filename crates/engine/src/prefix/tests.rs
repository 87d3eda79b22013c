//! What the tree finds, shares and lets go.

use super::*;
use proptest::prelude::*;

fn page_of(first: u32) -> Vec<u32> {
    (first..first + PAGE_LEN as u32).collect()
}

const OPEN: &[u32] = &[0];

fn open() -> Salt {
    Salt::new(None, 0)
}

/// A tree with two whole pages and a leaf of 10 tokens, none of which anybody else holds.
fn grown() -> (PagePool, PrefixTree, Vec<u32>) {
    let (mut pool, mut tree) = (PagePool::new(4), PrefixTree::default());
    let tokens: Vec<u32> = (0..2 * PAGE_LEN as u32 + 10).collect();
    let mut node = NodeId::ROOT;
    for part in tokens.chunks(PAGE_LEN) {
        let page = pool.take().unwrap();
        node = tree.insert(&mut pool, node, OPEN, part, page).0;
        pool.release(page);
    }
    (pool, tree, tokens)
}

#[test]
fn whole_pages_are_shared_and_the_next_is_copied_in_part() {
    let (_, mut tree, tokens) = grown();
    let all = tree.find(&open(), &tokens);
    assert_eq!((all.pages.len(), all.n_tokens()), (2, tokens.len()));
    let mut other = tokens.clone();
    other[PAGE_LEN + 5] = 999;
    let found = tree.find(&open(), &other);
    assert_eq!((found.pages.len(), found.n_tokens()), (1, PAGE_LEN + 5));
    assert_eq!(found.partial, Some((all.pages[1], 5)));
    assert_eq!(tree.find(&open(), &[7]).n_tokens(), 0);
    let salt = |n_public| Salt::new(Some("tenant"), n_public);
    assert_eq!(tree.find(&salt(0), &tokens).n_tokens(), 0);
    // What is public is found, and no more.
    assert_eq!(tree.find(&salt(PAGE_LEN + 3), &tokens).n_tokens(), PAGE_LEN);
}

#[test]
fn equal_tokens_keep_the_first_page() {
    let (mut pool, mut tree, tokens) = grown();
    let first = tree.find(&open(), &tokens).pages[0];
    let page = pool.take().unwrap();
    let (_, kept) = tree.insert(&mut pool, NodeId::ROOT, OPEN, &tokens[..PAGE_LEN], page);
    assert_eq!(kept, first);
    // Fewer tokens of a page that is there are there too.
    let (_, kept) = tree.insert(&mut pool, NodeId::ROOT, OPEN, &tokens[..7], page);
    assert_eq!((kept, pool.holders(page)), (first, 1));
}

#[test]
fn the_least_recently_used_leaves_make_room() {
    let (mut pool, mut tree, tokens) = grown();
    let page = pool.take().unwrap();
    tree.insert(&mut pool, NodeId::ROOT, OPEN, &page_of(500), page);
    pool.release(page);
    assert_eq!((pool.n_free(), pool.n_cached()), (0, 4));
    // The newest branch was used last, so the old one goes from its end.
    assert!(tree.make_room(&mut pool, 2));
    assert_eq!(tree.find(&open(), &tokens).n_tokens(), PAGE_LEN);
    assert_eq!(tree.find(&open(), &page_of(500)).n_tokens(), PAGE_LEN);
    // What somebody holds stays, and with it what it follows.
    let held = tree.find(&open(), &tokens).pages[0];
    pool.share(held);
    assert!(!tree.make_room(&mut pool, 4));
    assert_eq!((pool.n_free(), pool.n_cached()), (3, 0));
    pool.release(held);
    tree.clear(&mut pool);
    assert_eq!((pool.n_free(), pool.n_cached()), (4, 0));
}

proptest! {
    /// The longest common beginning, found among neighbours, is the longest of all.
    #[test]
    fn the_nearest_child_is_the_nearest_of_all(
        keys in prop::collection::btree_set(prop::collection::vec(0u32..3, 1..6), 1..20),
        tokens in prop::collection::vec(0u32..3, 0..8),
    ) {
        let (mut pool, mut tree) = (PagePool::new(64), PrefixTree::default());
        for key in &keys {
            let page = pool.take().unwrap();
            tree.insert(&mut pool, NodeId::ROOT, OPEN, key, page);
        }
        let longest = keys.iter().map(|key| common(key, &tokens)).max().unwrap();
        prop_assert_eq!(tree.find(&open(), &tokens).n_tokens(), longest);
    }
}
