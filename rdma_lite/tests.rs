// SPDX-License-Identifier: GPL-2.0

//! What runs without a device. The protocol has its own tests, on the host.

use kernel::prelude::*;

#[kunit_tests(rdma_lite)]
mod suite {
    use crate::{events, notify, port, uapi};
    use kernel::prelude::*;
    use kernel::sync::Arc;

    #[test]
    fn a_slow_reader_loses_the_oldest_events_and_is_told_so() -> Result {
        let reader = events::Reader::new()?;
        let readers = KBox::pin_init(events::Readers::new(), GFP_KERNEL)?;
        readers.add(&reader)?;
        for epoch in 0..300 {
            readers.tell(events::event(uapi::EVENT_MAP, 1, 0, epoch, 0));
        }
        assert_eq!(reader.pop().map(|e| e.kind), Some(uapi::EVENT_LOST));
        assert_eq!(reader.pop().map(|e| e.epoch), Some(300 - 256));
        readers.remove(&reader);
        let waiting = (0..300).map_while(|_| reader.pop()).count();
        assert_eq!(waiting, 255);
        assert!(!reader.is_ready());
        Ok(())
    }

    #[test]
    fn a_port_has_one_owner_at_a_time() -> Result {
        let ports = KBox::pin_init(port::Ports::new(), GFP_KERNEL)?;
        let none = core::ptr::null_mut();
        // SAFETY: `echo` needs no context.
        unsafe { ports.register(7, port::echo, none, false)? };
        // SAFETY: As above.
        let again = unsafe { ports.register(7, port::echo, none, false) };
        assert_eq!(again, Err(EBUSY));
        ports.unregister(7);
        assert!(ports.get(7).is_none());
        // SAFETY: As above.
        unsafe { ports.register(7, port::echo, none, false)? };
        ports.unregister(7);
        Ok(())
    }

    #[test]
    fn the_echo_port_answers_what_it_gets() -> Result {
        let ports = KBox::pin_init(port::Ports::new(), GFP_KERNEL)?;
        // SAFETY: `echo` needs no context.
        unsafe { ports.register(port::ECHO, port::echo, core::ptr::null_mut(), true)? };
        let port = ports.get(port::ECHO).ok_or(ENOENT)?;
        let data = *b"ping";
        let msg = port::Message {
            src: 1,
            len: 4,
            src_incarnation: 1,
            epoch: 1,
            data: data.as_ptr().cast(),
        };
        let mut reply = [0u8; 8];
        // SAFETY: The reply has that many bytes.
        let len = unsafe { port.execute(&msg, reply.as_mut_ptr(), 8) };
        assert_eq!(len, Ok(4));
        assert_eq!(&reply[..4], b"ping");
        // SAFETY: As above.
        let short = unsafe { port.execute(&msg, reply.as_mut_ptr(), 3) };
        assert_eq!(short, Err(EMSGSIZE));
        drop(port);
        ports.unregister(port::ECHO);
        Ok(())
    }

    #[test]
    fn whoever_is_no_longer_registered_hears_of_no_map() -> Result {
        /// # Safety
        ///
        /// `ctx` must point to a number that nobody else uses.
        unsafe extern "C" fn count(ctx: *mut c_void, epoch: u64) {
            // SAFETY: By this function's requirement.
            unsafe { *ctx.cast::<u64>() += epoch };
        }

        let notifiers = KBox::pin_init(notify::Notifiers::new(), GFP_KERNEL)?;
        let mut sum = 0u64;
        // SAFETY: The sum outlives the registration.
        let cookie = unsafe { notifiers.add(count, (&raw mut sum).cast())? };
        notifiers.tell(5);
        notifiers.remove(cookie);
        notifiers.tell(7);
        assert_eq!(sum, 5);
        Ok(())
    }

    #[test]
    fn queues_run_and_take_back_work() -> Result {
        let queues = crate::host::Queues::new()?;
        let done = Arc::pin_init(kernel::sync::Completion::new(), GFP_KERNEL)?;
        let told = done.clone();
        queues
            .handlers
            .try_spawn(GFP_KERNEL, move || told.complete())?;
        assert_eq!(
            done.wait_for_completion_timeout(kernel::time::msecs_to_jiffies(5000)),
            Ok(())
        );
        queues.handlers.flush();
        Ok(())
    }
}
