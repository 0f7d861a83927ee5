//! Stage 3: the keys that the files need.
//!
//! This version writes plain files only. A database that names a key was encrypted by a newer
//! version; without that key ring nothing in it can be read.

use crate::identity::IdentityFile;
use base::fs::{Fs, full_path};
use base::{Error, FileName, Result};

pub(crate) fn check(fs: &dyn Fs, identity: &IdentityFile) -> Result<()> {
    match identity.key_id {
        0 => Ok(()),
        key_id => {
            let path = full_path(fs, &FileName::Identity.path());
            Err(Error::KeyUnavailable { path, key_id })
        }
    }
}
