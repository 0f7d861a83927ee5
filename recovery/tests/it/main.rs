//! Opening databases on a simulated disk.

mod check;
mod crash;
mod create;
mod dump;
mod errors;
mod reopen;
mod small;
