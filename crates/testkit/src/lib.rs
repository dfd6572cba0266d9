#![doc = include_str!("../README.md")]

pub mod corpus;
pub mod ice;
pub mod sip;

pub mod media;
pub mod net;
