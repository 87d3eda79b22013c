//! The largest number for which something holds.

/// The largest `n` from 1 to `limit` for which `holds`, where what holds for a number holds for all
/// smaller ones; 0 where it does not hold for 1. Looks near `first` first, at about twice as many
/// numbers as the answer has digits in base two. Where it is not as regular as that, it holds for
/// the answer and not for the next number.
///
/// # Errors
/// The first that `holds` gives.
pub fn most<E>(
    first: usize,
    limit: usize,
    mut holds: impl FnMut(usize) -> Result<bool, E>,
) -> Result<usize, E> {
    // It holds for `low`, or `low` is 0; it does not for `high`, or `high` is beyond the limit.
    let (mut low, mut high) = (0, limit.saturating_add(1));
    let mut next = first.clamp(1, limit.max(1));
    while low + 1 < high {
        match holds(next)? {
            true => low = next,
            false => high = next,
        }
        next = match (low, high) {
            (low, high) if high > limit => low.saturating_mul(2).min(limit),
            (0, high) => high / 2,
            (low, high) => low + (high - low) / 2,
        };
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_is_found_from_anywhere() {
        for limit in [1, 2, 7, 100, 1000] {
            for edge in 0..=limit.min(130) {
                for first in [1, 2, 50, 99, 5000] {
                    let mut asked = Vec::new();
                    let found = most(first, limit, |n| {
                        assert!((1..=limit).contains(&n), "{n} of {limit}");
                        asked.push(n);
                        Ok::<_, ()>(n <= edge)
                    });
                    assert_eq!(found, Ok(edge), "{limit} {edge} {first}");
                    assert!(asked.len() <= 22, "{limit} {edge} {first}: {asked:?}");
                    let mut distinct = asked.clone();
                    distinct.sort_unstable();
                    distinct.dedup();
                    assert_eq!(distinct.len(), asked.len(), "nothing is asked twice: {asked:?}");
                }
            }
        }
        assert_eq!(most(3, 9, |_| Err("broken")), Err("broken"));
    }
}
