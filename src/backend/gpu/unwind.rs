//! wgpu ends a wait for a device that is lost meanwhile with a panic; here it becomes a value.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is about to be caught.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns; none if it panicked, without a word on stderr: whoever calls this says what happened.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info);
            }
        }));
    });
    CAUGHT.set(true);
    // Nothing of ours is changed within; wgpu's own state is that of a lost device, which is not used again.
    let result = panic::catch_unwind(AssertUnwindSafe(work)).ok();
    CAUGHT.set(false);
    result
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_becomes_none() {
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| -> u8 { panic!("Error in Device::poll: the parent device is lost") }), None);
        assert_eq!(caught(|| 8), Some(8));
    }
}
