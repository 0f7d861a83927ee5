//! What replication costs and how fast it is: `--bench replication`.
//!
//! ```text
//! node       a whole node in a process of its own: database, replica, loopback QUIC; obeys lines
//! apart      the other end of those lines
//! table      figures, each beside its target
//! tail, visible, catch_up, bootstrap, stalled, reconcile, readers     what is measured
//! ```
//!
//! Each node is a process, so that processor time and memory are those of one node. All clocks are
//! the machine's monotonic one, so that moments of two nodes can be compared.

mod apart;
pub mod args;
mod bootstrap;
mod catch_up;
mod node;
mod readers;
mod reconcile;
mod stalled;
mod table;
mod tail;
mod visible;

use crate::Result;
use args::{Args, Part};
use table::Figure;

/// Bytes of a value.
const VALUE_LEN: usize = 100;

/// Does what the flags say: all of it, or one node's part.
pub fn run(args: &Args) -> Result<()> {
    if let Some(dir) = &args.node {
        return node::run(dir, args);
    }
    std::fs::create_dir_all(&args.dir)?;
    let mut figures = Vec::new();
    for part in args.parts() {
        let measured = measure(*part, args)?;
        measured.iter().for_each(|figure| println!("{figure}"));
        figures.extend(measured);
    }
    println!("\n{}", table::markdown(&figures));
    std::fs::remove_dir_all(&args.dir)?;
    Ok(())
}

fn measure(part: Part, args: &Args) -> Result<Vec<Figure>> {
    match part {
        Part::Tail => tail::measure(args),
        Part::Visible => visible::measure(args),
        Part::CatchUp => catch_up::measure(args),
        Part::Bootstrap => bootstrap::measure(args),
        Part::Stalled => stalled::measure(args),
        Part::Reconcile => reconcile::measure(args),
        Part::Readers => readers::measure(args),
    }
}
