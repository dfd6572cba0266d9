//! The machine, by script: no network and no clock but the test's own.

mod bench;
mod callee;
mod caller;
mod in_dialog;
mod offers;
mod random;
