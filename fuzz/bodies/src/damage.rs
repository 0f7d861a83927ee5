//! What can happen to a file.

use crate::input::Input;

/// Changes that one input makes at most.
const CHANGES_MAX: usize = 8;

/// Damages `bytes` as `input` says: bits flipped, parts zeroed, moved, cut off, put in. May do
/// nothing.
pub(crate) fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..input.below(CHANGES_MAX + 1) {
        let at = input.below(bytes.len().clamp(1, 1 << 16));
        let end = bytes.len().min(at + 1 + input.below(64));
        match input.below(6) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << input.below(8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = input.byte()),
            2 => bytes[at.min(end)..end].fill(0),
            3 => {
                let to = input.below(bytes.len().saturating_sub(end - at.min(end)).max(1));
                bytes.copy_within(at.min(end)..end, to);
            }
            4 => bytes.truncate(at),
            _ => drop(bytes.splice(at.min(end)..at.min(end), input.bytes(64).iter().copied())),
        }
    }
}
