//! Opening databases on a simulated disk.

#[cfg(test)]
mod check;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod create;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod reopen;
#[cfg(test)]
mod small;
