#![doc = include_str!("../README.md")]

pub mod corpus;
mod folder;
pub mod ice;
pub mod sip;

pub mod media;
pub mod net;

pub use folder::Folder;
