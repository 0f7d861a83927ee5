//! Writes a table.

use base::Origin;

/// Who writes a table; recorded in its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOwner {
    /// The database.
    pub database: [u8; 16],
    /// The author that "local" means in it.
    pub origin: Origin,
    /// The generation of the database.
    pub generation: u64,
}
