//! Compares short byte strings in place.
//!
//! Most keys share all but a few bytes with what they are compared with. For those, loading words
//! beats a call of `memcmp`, whose masked loads wait for every byte that they touch.

/// Whether `a` and `b` are equal.
#[inline]
pub(crate) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() > 16 {
        return a == b;
    }
    if let (Some(a_first), Some(a_last)) = (a.first_chunk::<8>(), a.last_chunk::<8>())
        && let (Some(b_first), Some(b_last)) = (b.first_chunk::<8>(), b.last_chunk::<8>())
    {
        let first = u64::from_le_bytes(*a_first) ^ u64::from_le_bytes(*b_first);
        let last = u64::from_le_bytes(*a_last) ^ u64::from_le_bytes(*b_last);
        return first | last == 0;
    }
    if let (Some(a_first), Some(a_last)) = (a.first_chunk::<4>(), a.last_chunk::<4>())
        && let (Some(b_first), Some(b_last)) = (b.first_chunk::<4>(), b.last_chunk::<4>())
    {
        let first = u32::from_le_bytes(*a_first) ^ u32::from_le_bytes(*b_first);
        let last = u32::from_le_bytes(*a_last) ^ u32::from_le_bytes(*b_last);
        return first | last == 0;
    }
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// What follows `prefix` in `key`, if it starts with that.
#[inline]
pub(crate) fn strip_prefix<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = key.split_at_checked(prefix.len())?;
    is_equal(front, prefix).then_some(rest)
}

/// How many bytes two strings start with alike.
pub(crate) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equality_is_that_of_slices(
            a in prop::collection::vec(0u8..2, 0..40), at: prop::sample::Index, other: u8
        ) {
            let mut b = a.clone();
            prop_assert!(is_equal(&a, &b));
            prop_assert!(!is_equal(&a, &[&*a, &[0]].concat()));
            if !a.is_empty() {
                b[at.index(a.len())] = other;
            }
            prop_assert_eq!(is_equal(&a, &b), a == b);
            prop_assert_eq!(strip_prefix(&a, &b), a.strip_prefix(&*b));
            prop_assert_eq!(strip_prefix(&a, &a[..at.index(a.len() + 1)]), a.get(at.index(a.len() + 1)..));
        }
    }
}
