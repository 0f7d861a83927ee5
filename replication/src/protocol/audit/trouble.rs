//! Why an audit does not go on.

use crate::error::ProtocolError;
use base::Error;

/// See the module.
pub(super) enum Trouble {
    /// The peer breaks the protocol: the session ends.
    Peer(ProtocolError),
    /// It can not be done here and now.
    Here(Error),
}

impl From<ProtocolError> for Trouble {
    fn from(error: ProtocolError) -> Trouble {
        Trouble::Peer(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Here(error)
    }
}
