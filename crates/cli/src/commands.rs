//! One file per command.

pub(crate) mod answer;
pub(crate) mod automaton;
pub(crate) mod bridge;
pub(crate) mod call;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod ice;
pub(crate) mod refer;
pub(crate) mod register;
pub(crate) mod sdp;
pub(crate) mod serve_home;
pub(crate) mod stacks;
pub(crate) mod subscribe;
mod talk;
pub(crate) mod turn;
