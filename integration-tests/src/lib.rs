#![doc = include_str!("../README.md")]

pub mod asterisk;
pub mod baresip;
pub mod browser;
pub mod certificates;
pub mod dialogs;
pub mod film;
pub mod folder;
pub mod internet;
pub mod lab;
pub mod netns;
pub mod patience;
pub mod process;
pub mod program;
pub mod sipp;
pub mod wav;
