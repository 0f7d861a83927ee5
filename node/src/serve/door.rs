//! Where requests come in: it is open before there is a node to answer them.

use super::callers::Callers;
use super::node::Node;
use super::opening::{self, Opening};
use super::routes::routes;
use axum::Router;
use axum::body::Body;
use esker_node::resilience::{Timeout, Timeouts};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Routes = TowerToHyperService<Router>;

/// Answers each request by what is behind it at that moment. Clones are the same door.
#[derive(Clone)]
pub(super) struct Door {
    inside: Arc<Inside>,
}

struct Inside {
    timeouts: Timeouts,
    /// Until there is a node.
    opening: Routes,
    opened: OnceLock<(Arc<Node>, Routes)>,
}

impl Door {
    /// A door behind which `opening` is told of.
    pub(super) fn new(opening: Arc<Opening>, timeouts: Timeouts, callers: Arc<Callers>) -> Door {
        let opening = TowerToHyperService::new(opening::routes(opening, callers));
        Door { inside: Arc::new(Inside { timeouts, opening, opened: OnceLock::new() }) }
    }

    /// From here on `node` answers, also on connections that are there already.
    pub(super) fn open(&self, node: Arc<Node>) {
        let all = TowerToHyperService::new(routes(node.clone()));
        // There is one node.
        let _ = self.inside.opened.set((node, all));
    }

    /// Who answers, if it is open.
    pub(super) fn node(&self) -> Option<&Arc<Node>> {
        self.inside.opened.get().map(|(node, _)| node)
    }

    /// How long something may take now.
    pub(super) fn timeout(&self, of: Timeout) -> Duration {
        self.inside.timeouts.get(of)
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Routes as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let opened = self.inside.opened.get().map(|(_, routes)| routes);
        opened.unwrap_or(&self.inside.opening).call(request)
    }
}
