//! Where the code of this program stands in memory.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

/// The main executable, as it is loaded.
#[derive(Clone, Debug)]
pub struct Image {
    /// The address that its offsets count from: another one in each process.
    pub base: usize,
    /// The addresses of its code.
    pub code: Range<usize>,
}

/// The main executable of this process; `None` if the loader does not tell.
pub fn main_executable() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(find).as_ref()
}

fn find() -> Option<Image> {
    let mut found: Option<Image> = None;
    // SAFETY: the callback fits the declaration and gets the pointer to `found`, which outlives the
    // call.
    unsafe { libc::dl_iterate_phdr(Some(first), std::ptr::from_mut(&mut found).cast::<c_void>()) };
    found
}

/// Notes the first object, which is the main executable, and asks for no more.
///
/// # Safety
/// `info` is what the loader passes, and `found` points to an `Option<Image>`.
unsafe extern "C" fn first(
    info: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid description of a loaded object, with its headers.
    let (info, headers) = unsafe {
        let info = &*info;
        (info, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    let base = info.dlpi_addr as usize;
    let code = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0)
        .map(|header| {
            base + header.p_vaddr as usize..base + (header.p_vaddr + header.p_memsz) as usize
        })
        .reduce(|one, two| one.start.min(two.start)..one.end.max(two.end));
    // SAFETY: `find` passes a pointer to its own variable.
    unsafe { *found.cast::<Option<Image>>() = code.map(|code| Image { base, code }) };
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_executable_holds_this_function_and_not_a_libc_one() {
        let image = main_executable().unwrap();
        let here = main_executable_holds_this_function_and_not_a_libc_one as fn() as usize;
        assert!(image.code.contains(&here));
        assert!(image.base <= image.code.start);
        let far = image as *const Image as usize;
        assert!(!image.code.contains(&far), "data is no code");
    }
}
