//! A node: an open database, or several, served over HTTP until it is told to stop.
//!
//! ```text
//! settings   what the command line or the file asks for
//! life       from a listener to closed databases
//! datasets   several databases behind one listener
//! shares     what they have in common
//! door       where requests come in, before there is a node and after
//! opening    what is answered while the database is being opened
//! signals    what tells it to stop, or to read its configuration again
//! server     the listener, its connections, and how they end
//! room       places for connections, and who gives way when all are taken
//! routes     which path is answered by which of the handlers below
//! record     get, put and delete of one record
//! condition  stamps as entity tags, and what requests want to be so
//! batch      several writes as one commit
//! stream     scan and export: records as lines, as slowly as their reader likes
//! content    digest, keyspaces, numbers, flush and compaction
//! load       lines into batches
//! health     whether all is well; also what peers have not confirmed
//! checks     what the node checks about itself in the background
//! syncs      one of those: whether the disk takes the log in time
//! overview   all that the page shows, as one answer
//! page       the page, for people with a browser
//! probes     what those ask who start, stop and watch nodes
//! glimpse    what they know of the peers, without waiting
//! peers      status and changes of peers, through `replicas`
//! node       what all handlers share, and how they call the engine
//! closing    the end of a node, which does not take for ever
//! ending     how long work hears that it is not wanted any more
//! guarded    calls that are tried again, and left alone when they fail too often
//! standstill work that is given up once nothing goes on in it
//! disk       what operators ask of the disk, left alone when that fails too often
//! body       bodies of requests, bounded in bytes and time
//! pace       how fast clients have to be
//! query      the parts of a URL
//! admin      what operators change while it runs: mode, log, timeouts, breakers
//! limits     how much users may ask for
//! remedies   what it does by itself against trouble
//! upkeep     checkpoints, backups, scrubs, when operators ask
//! backups    by one breaker, whoever asks for them
//! mode       what users may ask for now
//! callers    who may ask: tokens, or whoever is on this machine
//! origin     keeps web pages out
//! refusal    a failure as an answer
//! patience   a connection that ends if its reader is too slow
//! ```
//!
//! This is the only asynchronous part of the command. Calls to the engine run on threads that may block;
//! quick ones on those that answer, as long as two of these are free. All memory that a request can ask
//! for is bounded, and so is all time that it can hold it.

mod admin;
mod backups;
mod batch;
mod body;
mod callers;
mod checks;
mod closing;
mod condition;
mod content;
mod datasets;
mod disk;
mod door;
mod ending;
mod glimpse;
mod guarded;
mod health;
mod life;
mod limits;
mod load;
mod mode;
mod node;
mod opening;
mod origin;
mod overview;
mod pace;
mod page;
mod patience;
mod peers;
mod probes;
mod query;
mod record;
mod refusal;
mod remedies;
mod room;
mod routes;
mod server;
mod settings;
mod shares;
mod signals;
mod standstill;
mod stream;
mod syncs;
mod upkeep;

pub(crate) use self::health::LagThresholds;
pub(crate) use self::life::{Opened, Ready, serve};
pub(crate) use self::mode::Mode;
pub(crate) use self::opening::Opening;
pub(crate) use self::peers::{NewPeer, Promoted, StatusReport};
pub(crate) use self::settings::Settings;
