//! Locking a mutex, poisoned or not.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. A panic of another thread is not propagated: only code of the user may panic under a lock, such as a
/// request body while it is read, and then its call fails anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
