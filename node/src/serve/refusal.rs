//! A failure as an answer: a status, and the object that `error` describes.

use super::pace::LEAST_BYTES_PER_SECOND;
use crate::error::{Exit, Failure};
use crate::place::not_as_wanted;
use crate::wire::STAMP_MISMATCH;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use std::time::Duration;

/// When to ask again what may succeed later.
const RETRY_SECONDS: &str = "1";

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    failure: Failure,
}

impl Refusal {
    /// A body or a part of it that is larger than allowed.
    pub(super) fn too_large(what: &'static str, limit: usize, value: u64) -> Refusal {
        let failure = base::Error::too_large(what, limit as u64, value).into();
        Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, failure }
    }

    /// A client that sends too slowly.
    pub(super) fn too_slow(patience: Duration) -> Refusal {
        let seconds = patience.as_secs_f64();
        let message = format!(
            "the body of the request has fallen {seconds} s behind {LEAST_BYTES_PER_SECOND} bytes a second"
        );
        let failure = Failure::new(Exit::Io, "TooSlow", message).action("send it again, faster");
        Refusal { status: StatusCode::REQUEST_TIMEOUT, failure }
    }

    /// A body that ended before its end.
    pub(super) fn cut_off() -> Refusal {
        let failure = Failure::new(Exit::Io, "CutOff", "the body of the request is not whole");
        Refusal { status: StatusCode::BAD_REQUEST, failure }
    }

    /// Too much is asked at once.
    pub(super) fn overloaded(what: &str) -> Refusal {
        let message = format!("the node is busy: all of its {what} is taken");
        let failure = Failure::new(Exit::Other, "Overloaded", message);
        Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            failure: failure.action("ask again later, or less at once"),
        }
    }

    /// Somebody asks too often.
    pub(super) fn too_often(failure: Failure) -> Refusal {
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, failure }
    }

    /// The database is not open yet; `words` say how far it is.
    pub(super) fn opening(words: String) -> Refusal {
        let failure = Failure::new(Exit::Other, "Opening", words);
        let action = "ask again when /health/ready answers 200";
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, failure: failure.action(action) }
    }

    /// A request that may come from a web page.
    pub(super) fn foreign(message: &str) -> Refusal {
        let failure = Failure::new(Exit::Denied, "ForeignOrigin", message);
        Refusal {
            status: StatusCode::FORBIDDEN,
            failure: failure.action("ask with a URL of 127.0.0.1, [::1] or localhost"),
        }
    }

    /// A request of somebody who did not say who they are.
    pub(super) fn unauthenticated(message: &str) -> Refusal {
        let failure = Failure::new(Exit::Denied, "Unauthenticated", message);
        let action =
            "send the header `Authorization: Bearer TOKEN`; commands take it from ESKER_TOKEN";
        Refusal { status: StatusCode::UNAUTHORIZED, failure: failure.action(action) }
    }

    /// A record whose stamp is another than the one asked for.
    pub(super) fn not_as_wanted() -> Refusal {
        not_as_wanted("the record is not as the request wants it").into()
    }

    /// A path that means nothing.
    pub(super) fn no_such_path() -> Refusal {
        let failure = Failure::new(Exit::Input, "UnknownPath", "the node has nothing at this path");
        Refusal { status: StatusCode::NOT_FOUND, failure: failure.action("see the README") }
    }

    /// A path of a dataset that is not there.
    pub(super) fn no_such_dataset() -> Refusal {
        let message = "the process has no dataset of that name";
        let failure = Failure::new(Exit::NotFound, "DatasetNotFound", message);
        failure.action("list /v1/datasets to see their names").into()
    }

    /// A path that does something else.
    pub(super) fn no_such_method() -> Refusal {
        let failure =
            Failure::new(Exit::Input, "UnknownMethod", "the path does not take this method");
        Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            failure: failure.action("see the README"),
        }
    }
}

impl<F: Into<Failure>> From<F> for Refusal {
    fn from(failure: F) -> Refusal {
        let failure = failure.into();
        Refusal { status: status_of(&failure), failure }
    }
}

/// The status of a failure.
fn status_of(failure: &Failure) -> StatusCode {
    match failure.exit() {
        Exit::Usage | Exit::Input => StatusCode::BAD_REQUEST,
        Exit::NotFound => StatusCode::NOT_FOUND,
        Exit::Conflict if failure.code() == STAMP_MISMATCH => StatusCode::PRECONDITION_FAILED,
        Exit::Exists | Exit::Conflict => StatusCode::CONFLICT,
        Exit::Denied => StatusCode::FORBIDDEN,
        Exit::Bug | Exit::Integrity | Exit::CheckFailed => StatusCode::INTERNAL_SERVER_ERROR,
        Exit::Other | Exit::Io | Exit::Database => match failure.category() {
            "critical" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.failure.to_answer() + "\n"));
        *response.status_mut() = self.status;
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let is_later =
            matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if is_later && self.failure.category() == "retryable" {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Error;

    #[test]
    fn a_failure_has_the_status_of_its_kind() {
        for (error, status) in [
            (Error::invalid("no"), 400),
            (Error::KeyspaceNotFound { name: "k".into() }, 404),
            (Error::Conflict, 409),
            (Error::ReadOnly, 403),
            (Error::DiskFull { path: "/d".into() }, 503),
            (Error::Poisoned, 503),
            (Error::Closed, 503),
            (Error::Halted { path: "/d".into() }, 500),
        ] {
            assert_eq!(Refusal::from(error).status, status);
        }
    }
}
