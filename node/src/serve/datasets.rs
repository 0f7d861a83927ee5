//! Several databases behind one listener: the main one, and datasets, each with a URL of its own.
//!
//! ```text
//! /v1/datasets               GET, of the main one: [{"dataset":..,"url":..,"status":..,"node":..,"listen":..}]
//! /v1/datasets/{name}        GET, of the main one: that one, or the main one itself as `main`
//! /v1/datasets/{name}/..     the dataset answers .. as a process with it alone would; `main` is the main one
//! ```
//!
//! So `http://HOST/v1/datasets/NAME` is the URL of a dataset for whoever asks a node, such as a command. A
//! dataset is a database of its own: no path leads from one to another.

use super::door::Door;
use super::node::Node;
use super::query::Query;
use super::refusal::Refusal;
use super::routes::json;
use crate::config::MAIN;
use crate::wire::DATASETS_PATH;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::body::Incoming;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The datasets beside the main one. Clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Datasets {
    doors: Arc<BTreeMap<String, Door>>,
}

impl Datasets {
    /// Those behind `doors`, by name.
    pub(super) fn new(doors: BTreeMap<String, Door>) -> Datasets {
        Datasets { doors: Arc::new(doors) }
    }

    /// Whether `uri` is about a dataset that is not there.
    pub(super) fn is_missing(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(DATASETS_PATH);
        let name = rest.and_then(|rest| rest.split('/').next());
        name.is_some_and(|name| name != MAIN && !self.doors.contains_key(name))
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Door)> {
        self.doors.iter().map(|(name, door)| (name.as_str(), door))
    }
}

/// All doors of a process. Clones are the same ones.
#[derive(Clone)]
pub(super) struct House {
    main: Door,
    datasets: Datasets,
}

impl House {
    /// A house with these doors.
    pub(super) fn new(main: Door, datasets: Datasets) -> House {
        House { main, datasets }
    }

    /// That of the main database.
    pub(super) fn main(&self) -> &Door {
        &self.main
    }

    /// The door for `request`, which then is as whoever is behind that knows it. Who asks for a dataset that
    /// does not exist is told so by the main one, if he may ask anything.
    pub(super) fn lead(&self, request: &mut Request<Incoming>) -> &Door {
        let door = |name: &str| match name {
            MAIN => Some(&self.main),
            name => self.datasets.doors.get(name),
        };
        let inside = inside(request.uri()).and_then(|(name, uri)| Some((door(name)?, uri)));
        let Some((door, uri)) = inside else { return &self.main };
        *request.uri_mut() = uri;
        door
    }
}

/// The dataset that `uri` is about, and what is asked of it.
fn inside(uri: &Uri) -> Option<(&str, Uri)> {
    let (name, _) = uri.path().strip_prefix(DATASETS_PATH)?.split_once('/')?;
    let all = uri.path_and_query()?.as_str();
    let rest = all.get(DATASETS_PATH.len() + name.len()..)?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Some((name, Uri::from_parts(parts).ok()?))
}

/// A dataset, for who asks which there are.
#[derive(Serialize)]
struct Listed<'a> {
    dataset: &'a str,
    /// Where it answers, behind the host.
    url: String,
    /// `open`, or `opening`.
    status: &'static str,
    /// How peers call it; none while it is being opened.
    node: Option<String>,
    /// Where they connect.
    listen: Option<String>,
}

impl Listed<'_> {
    fn of(name: &str, node: Option<Arc<Node>>) -> Listed<'_> {
        Listed {
            dataset: name,
            url: format!("{DATASETS_PATH}{name}"),
            status: if node.is_some() { "open" } else { "opening" },
            node: node.as_ref().map(|node| node.directory().db().identity().node.to_string()),
            listen: node.as_ref().map(|node| node.replicas().listens_at().to_string()),
        }
    }
}

/// Which datasets there are.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let listed = node.datasets().all().map(|(name, door)| Listed::of(name, door.node()));
    Ok(json(&listed.collect::<Vec<_>>()))
}

/// One of them.
pub(super) async fn one(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    if name == MAIN {
        return Ok(json(&Listed::of(MAIN, Some(node))));
    }
    let found = node.datasets().doors.get_key_value(&name);
    let (name, door) = found.ok_or_else(Refusal::no_such_dataset)?;
    Ok(json(&Listed::of(name, door.node())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_dataset_is_what_stands_behind_its_name() {
        let found = |uri: &'static str| {
            let uri = Uri::from_static(uri);
            inside(&uri).map(|(name, uri)| (name.to_owned(), uri.to_string()))
        };
        let of = |name: &str, uri: &str| Some((name.to_owned(), uri.to_owned()));
        assert_eq!(found("/v1/datasets/orders/v1/stats"), of("orders", "/v1/stats"));
        assert_eq!(found("/v1/datasets/o/health?a=/b/c"), of("o", "/health?a=/b/c"));
        assert_eq!(found("/v1/datasets/o/"), of("o", "/"));
        assert_eq!(found("/v1/datasets/o//v1"), of("o", "//v1"));
        assert_eq!(found("/v1/datasets/o/v1/datasets/p/x"), of("o", "/v1/datasets/p/x"));
        assert_eq!(found("/v1/datasets/o/v1/x%2Fy"), of("o", "/v1/x%2Fy"));
        let whole = found("http://host:1/v1/datasets/o/v1/stats?x");
        assert_eq!(whole, of("o", "http://host:1/v1/stats?x"));
        for other in
            ["/", "/v1/datasets", "/v1/datasets/o", "/v1/datasets?a=/v1/datasets/o/x", "/v1"]
        {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
