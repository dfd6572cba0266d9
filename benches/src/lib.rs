#![doc = include_str!("../README.md")]

#[doc(hidden)]
pub mod capture;
#[doc(hidden)]
pub mod figure;
#[doc(hidden)]
pub mod page;
#[doc(hidden)]
pub mod readme;
pub mod words;
