//! Tag lists: how sofia's functions take parameters.

use crate::ffi;
use std::ptr;

/// A list of parameters; what it points to is its maker's to keep.
pub(super) struct Tags(Vec<ffi::Tag>);

impl Tags {
    pub(super) fn new() -> Self {
        Tags(vec![END])
    }

    pub(super) fn number(self, tag: *const ffi::TagType, value: usize) -> Self {
        self.push(tag, value.cast_signed())
    }

    pub(super) fn pointer<T>(self, tag: *const ffi::TagType, value: *mut T) -> Self {
        self.push(tag, value.expose_provenance().cast_signed())
    }

    /// What stands for the whole list in a call; good as long as this is.
    pub(super) fn list(&self) -> (*const ffi::TagType, isize) {
        let start = self.0.as_ptr().expose_provenance().cast_signed();
        (&raw const ffi::tag_next, start)
    }

    fn push(mut self, tag: *const ffi::TagType, value: isize) -> Self {
        self.0.pop();
        self.0.push(ffi::Tag { tag, value });
        self.0.push(END);
        self
    }
}

/// `TAG_END()`.
const END: ffi::Tag = ffi::Tag {
    tag: ptr::null(),
    value: 0,
};
