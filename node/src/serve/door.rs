//! Where requests come in: it is open before there is a node to answer them.

use super::callers::Callers;
use super::node::Node;
use super::opening::{self, Opening};
use super::routes::routes;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use tracing::Span;
use tracing::instrument::{Instrument, Instrumented};

pub(super) type Routes = TowerToHyperService<Router>;

/// Answers each request by what is behind it at that moment. Clones are the same door.
#[derive(Clone)]
pub(super) struct Door {
    inside: Arc<Inside>,
}

struct Inside {
    /// What is asked happens in this.
    span: Span,
    behind: RwLock<Behind>,
}

/// Who answers.
enum Behind {
    /// There is no node yet, or not now.
    Opening(Arc<Opening>, Routes),
    Node(Arc<Node>, Routes),
}

impl Behind {
    fn opening(opening: Arc<Opening>, callers: Arc<Callers>) -> Behind {
        let routes = TowerToHyperService::new(opening::routes(opening.clone(), callers));
        Behind::Opening(opening, routes)
    }
}

impl Door {
    /// A door behind which `opening` is told of.
    pub(super) fn new(opening: Arc<Opening>, callers: Arc<Callers>, span: Span) -> Door {
        let behind = RwLock::new(Behind::opening(opening, callers));
        Door { inside: Arc::new(Inside { span, behind }) }
    }

    /// From here on `node` answers, also on connections that are there already.
    pub(super) fn open(&self, node: Arc<Node>) {
        let all = TowerToHyperService::new(routes(node.clone()));
        self.put(Behind::Node(node, all));
    }

    /// From here on there is no node; `opening` is told of.
    pub(super) fn shut(&self, opening: Arc<Opening>, callers: Arc<Callers>) {
        self.put(Behind::opening(opening, callers));
    }

    /// Who answers, if it is open.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        self.standing().ok()
    }

    /// Who answers, or else why nobody does.
    pub(super) fn standing(&self) -> Result<Arc<Node>, String> {
        match &*self.inside.behind.read().unwrap_or_else(PoisonError::into_inner) {
            Behind::Opening(opening, _) => Err(opening.words()),
            Behind::Node(node, _) => Ok(node.clone()),
        }
    }

    fn put(&self, behind: Behind) {
        let mut now = self.inside.behind.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *now, behind);
        drop(now);
        // Perhaps the last that held a node: not under the lock.
        drop(before);
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Instrumented<<Routes as Service<Request<Incoming>>>::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match &*self.inside.behind.read().unwrap_or_else(PoisonError::into_inner) {
            Behind::Opening(_, routes) | Behind::Node(_, routes) => {
                routes.call(request).instrument(self.inside.span.clone())
            }
        }
    }
}
