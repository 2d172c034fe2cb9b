//! A mailbox: a task receives from one, and everything that happens to it is put there.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Instant,
};

use futures::FutureExt as _;

use super::process::Process;

struct Content<T> {
    messages: VecDeque<T>,
    waker: Option<Waker>,
}

/// Mailbox of one task; a clone puts into the same one.
pub struct Mailbox<T>(Rc<RefCell<Content<T>>>);

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Content { messages: VecDeque::new(), waker: None })))
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.0.borrow().messages.len())
    }
}

impl<T> Mailbox<T> {
    /// Puts a message behind the others.
    pub fn put(&self, message: T) {
        let waker = {
            let mut content = self.0.borrow_mut();
            content.messages.push_back(message);
            content.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next message, if there is one.
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().messages.pop_front()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.0.borrow().messages.len()
    }

    /// True without messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a message. `None` when the clock of the process shows `due` before one comes.
    pub async fn next(&self, process: &Process, due: Option<Instant>) -> Option<T> {
        let mut sleep = due.map(|due| process.sleep_until(due));
        poll_fn(|context| {
            if let Some(message) = self.take() {
                return Poll::Ready(Some(message));
            }
            if let Some(sleep) = &mut sleep
                && sleep.poll_unpin(context).is_ready()
            {
                return Poll::Ready(None);
            }
            self.0.borrow_mut().waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
