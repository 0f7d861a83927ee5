//! Placeholder until the manifest is written.
