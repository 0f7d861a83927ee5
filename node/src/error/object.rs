//! A failure as programs read it, and as a node answers with it.

use super::{Details, Exit, Failure, UNKNOWN};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A failure as programs read it.
#[derive(Deserialize, Serialize)]
struct FailureObject<'a> {
    code: Cow<'a, str>,
    #[serde(default = "unknown")]
    family: Cow<'a, str>,
    category: Cow<'a, str>,
    #[serde(default = "unknown")]
    retrying: Cow<'a, str>,
    message: Cow<'a, str>,
    action: Cow<'a, str>,
    file: Option<String>,
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    operations: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FailureObject<'a>>,
    /// From a node only: what a command that met it ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<u8>,
}

impl Failure {
    /// The failure that a node answered with, if `json` is one.
    pub(crate) fn from_answer(json: &[u8]) -> Option<Failure> {
        let object: FailureObject<'_> = serde_json::from_slice(json).ok()?;
        let exit = Exit::of_number(object.exit?);
        Some(object.into_failure(exit))
    }

    /// As programs read it, without a line end.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.object(None)).unwrap_or_else(|_| String::from("{}"))
    }

    /// As a node answers with it, for [`Failure::from_answer`].
    pub(crate) fn to_answer(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| String::from("{}"))
    }

    fn object(&self, exit: Option<u8>) -> FailureObject<'_> {
        let details = &*self.details;
        let borrow = |text| Cow::Borrowed(text);
        let metadata = details.metadata.iter();
        FailureObject {
            code: Cow::Borrowed(&details.code),
            family: Cow::Borrowed(&details.family),
            metadata: metadata.map(|(name, value)| (borrow(&**name), borrow(value))).collect(),
            operations: details.operations.iter().rev().map(|name| borrow(name)).collect(),
            errors: details.errors.iter().map(|failure| failure.object(None)).collect(),
            category: Cow::Borrowed(&details.category),
            retrying: Cow::Borrowed(&details.retrying),
            message: Cow::Borrowed(&details.message),
            action: Cow::Borrowed(&details.action),
            file: details.file.as_ref().map(|file| file.display().to_string()),
            offset: details.offset,
            line: details.line,
            exit,
        }
    }
}

/// As in [`Failure::to_answer`].
impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.object(Some(self.details.exit as u8)).serialize(to)
    }
}

impl FailureObject<'_> {
    fn into_failure(self, exit: Exit) -> Failure {
        let metadata = self.metadata.into_iter();
        let owned = |text: Cow<'_, str>| -> Cow<'static, str> { text.into_owned().into() };
        let details = Details {
            exit,
            code: owned(self.code),
            family: owned(self.family),
            category: owned(self.category),
            retrying: owned(self.retrying),
            message: self.message.into_owned(),
            action: self.action.into_owned(),
            file: self.file.map(PathBuf::from),
            offset: self.offset,
            line: self.line,
            metadata: metadata.map(|(name, value)| (owned(name), value.into_owned())).collect(),
            operations: self.operations.into_iter().rev().map(owned).collect(),
            errors: self.errors.into_iter().map(|error| error.into_failure(exit)).collect(),
        };
        Failure { details: Box::new(details) }
    }
}

fn unknown<'a>() -> Cow<'a, str> {
    UNKNOWN.into()
}
