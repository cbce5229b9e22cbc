//! Whatever comes in, and whatever changes meanwhile: the packet function loses no chunk, counts every frame out once, and
//! sends nothing but what came in and may go that way (`oracle`).

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use margay_fuzz::gateway::Rig;
use margay_fuzz::script::Script;

thread_local! {
    static RIG: RefCell<Rig> = RefCell::default();
}

fuzz_target!(|script: Script| RIG.with_borrow_mut(|rig| rig.run(script)));
