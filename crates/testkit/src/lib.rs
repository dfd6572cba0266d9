#![doc = include_str!("../README.md")]

pub mod sip;

pub mod media;
